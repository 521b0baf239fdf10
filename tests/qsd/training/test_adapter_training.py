"""Trainings with dropout, DoRA, gradient checkpointing and norms in bf16: where they begin, and the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from qsd.errors import UserError
from qsd.models.denoiser import load_denoiser
from qsd.models.precision import autocast_for
from qsd.stages.train import run as train
from qsd.training.memory import chosen_micro_batch, fitting
from qsd.training.metrics import read_metrics
from qsd.training.processes import Processes
from tests.qsd.tiny_stages import pair_ids, select, trainer
from tests.qsd.training.stopping import StoppedError, files, stop_after

if TYPE_CHECKING:
    from pathlib import Path

    from tests.qsd.tiny_stages import TinyStages

pytestmark = pytest.mark.slow


def moved(made: Any, size: float = 0.02) -> Any:
    """An engine whose adapter is no longer fresh."""
    generator = torch.Generator().manual_seed(0)
    for parameter in made.method.parameters.values():
        parameter.data += size * torch.randn(parameter.shape, generator=generator)
    return made


# ── Where a training begins ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "settings",
    [
        {"training__precision": "bf16_norms"},
        {"training__precision": "bf16_norms", "lora__dropout": 0.3},
        {"training__precision": "bf16", "lora__dora": True},
        {"lora__dora": True, "lora__dropout": 0.3, "lora__rslora": True},
    ],
)
def test_policy_and_reference_are_the_same_numbers_at_the_first_step(world: TinyStages, settings: Any) -> None:
    made = trainer(world, **settings)
    values = dict(zip(made.method.columns, made.method.step(0).tolist(), strict=True))
    assert values["logit_mean"] == 0.0
    assert values["winner_error"] == values["ref_winner_error"]
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in made.method.parameters.values())


def test_norms_take_and_give_bf16_and_other_layers_are_as_in_bf16(world: TinyStages) -> None:
    noisy, times = torch.randn(1, 4, 8, 8), torch.tensor([5])
    results = {}
    for precision in ("bf16", "bf16_norms"):
        denoiser = load_denoiser(world.config().model.path, torch.device("cpu"), precision)
        seen = set()
        for module in denoiser.network.modules():
            if isinstance(module, torch.nn.GroupNorm | torch.nn.LayerNorm):
                module.register_forward_hook(lambda _module, _inputs, output: seen.add(output.dtype))  # noqa: B023
        width = denoiser.network.config["cross_attention_dim"]
        with torch.no_grad(), autocast_for("cpu", precision):
            hidden = {"hidden_states": torch.ones(1, 3, width)}
            results[precision] = denoiser.predict(noisy, times, hidden).float()
            if precision == "bf16_norms":
                assert seen == {torch.bfloat16}
                norm = next(module for module in denoiser.network.modules() if isinstance(module, torch.nn.GroupNorm))
                # Without the class of its own, PyTorch refuses this on a CPU, and computes it in fp32 on a GPU.
                assert norm(torch.ones(1, norm.num_channels, 2, 2)).dtype == torch.bfloat16
    torch.testing.assert_close(results["bf16_norms"], results["bf16"], rtol=0.05, atol=0.05)


# ── The same bytes ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_checkpointing_and_a_resumed_training_keep_the_bytes_of_one_with_dropout(
    world: TinyStages, tmp_path: Path
) -> None:
    """With a loss that looks at the whole step first. A mask that a repeated pass drew again would change gradients."""
    settings = {"training__micro_batch": 2, "training__checkpoint_steps": 2, "loss__name": "kto", "lora__dropout": 0.3}
    whole = files(world.run(train, tmp_path / "whole", **settings))
    less = {**settings, "training__gradient_checkpointing": True}
    with pytest.raises(StoppedError):
        world.run(train, tmp_path / "resumed", report=stop_after(3), **less)
    assert files(world.run(train, tmp_path / "resumed", **less)) == whole
    without = world.run(train, tmp_path / "without", **{**settings, "lora__dropout": 0.0})
    assert read_metrics(without)[1:] != read_metrics(tmp_path / "whole")[1:]


def test_checkpointing_computes_blocks_again_and_keeps_the_bytes(world: TinyStages, tmp_path: Path) -> None:
    plain = files(world.run(train, tmp_path / "plain", training__steps=2))
    again = files(world.run(train, tmp_path / "again", training__steps=2, training__gradient_checkpointing=True))
    assert again == plain
    passes = []
    for checkpointing in (False, True):
        made = trainer(world)
        if checkpointing:
            made.method.denoiser.use_checkpointing()
        calls: list[int] = []
        blocks: Any = made.method.denoiser.network
        blocks.up_blocks[-1].resnets[-1].register_forward_pre_hook(lambda *_: calls.append(1))  # noqa: B023
        made.step(0)
        passes.append(len(calls))
    assert passes == [2, 3]  # reference, policy, and the policy again


def test_a_network_that_cannot_be_computed_again_is_named(world: TinyStages) -> None:
    denoiser = load_denoiser(world.config().model.path, torch.device("cpu"))
    network: Any = denoiser.network
    network._supports_gradient_checkpointing = False
    with pytest.raises(UserError, match=r"training\.gradient_checkpointing: UNet2DConditionModel does not support it"):
        denoiser.use_checkpointing()


# ── Which passes drop ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_step_with_dropout_does_not_depend_on_its_micro_batches(world: TinyStages, tmp_path: Path) -> None:
    """A loss with statistics over the step and moving averages; each pair has its own masks wherever it is computed."""
    few = world.with_inputs(select=select(tmp_path / "few", pair_ids(world)[:7]))
    settings: dict[str, Any] = {"loss__name": "adaptive_dpo", "training__pairs_per_step": 7}
    values = {}
    for dropout, micro_batch in ((0.3, 1), (0.3, 3), (0.3, 7), (0.0, 7)):
        made = moved(trainer(few, training__micro_batch=micro_batch, lora__dropout=dropout, **settings))
        means, norm = made.step(1)
        values[dropout, micro_batch] = torch.tensor([means[0], means[-1] * 100, norm])
    for micro_batch in (1, 3):
        torch.testing.assert_close(values[0.3, micro_batch], values[0.3, 7], rtol=1e-3, atol=1e-6)
    assert (values[0.0, 7] / values[0.3, 7] - 1).abs().max() > 0.02


def test_validation_and_averages_drop_nothing(world: TinyStages, tmp_path: Path) -> None:
    few = world.with_inputs(select=select(tmp_path / "few", pair_ids(world)[:7]))
    settings: dict[str, Any] = {"loss__name": "adaptive_dpo", "training__validation_pairs": 3}
    settings["training__validation_steps"] = 1
    rows, averaged = [], []
    for dropout in (0.0, 0.5):
        method = moved(trainer(few, lora__dropout=dropout, **settings)).method
        rows.append(method.validate(1))
        (item,) = method.batches.take(0)
        method._accumulate(item, None)
        averaged.append(item.averaged)
    assert rows[0]
    assert rows[0] == rows[1]
    assert averaged[0]
    for one, other in zip(averaged[0], averaged[1], strict=True):
        assert all(torch.equal(left, right) for left, right in zip(one, other, strict=True))


def test_weight_decay_leaves_lengths_of_rows_alone(world: TinyStages) -> None:
    """It would lead them to zero, and the adapted weights with them."""
    made = trainer(world, lora__dora=True, training__weight_decay=100.0, training__learning_rate=1e-3)
    before = {name: parameter.detach().clone() for name, parameter in made.method.parameters.items()}
    for parameter in made.method.parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    made.optimizer.step(0)
    lengths = {name for name in before if "lora_magnitude_vector" in name}
    assert lengths
    for name, parameter in made.method.parameters.items():
        if name in lengths:
            assert torch.equal(parameter, before[name])
        elif "lora_A" in name:
            torch.testing.assert_close(parameter, before[name] * 0.9)


# ── The micro-batch ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_micro_batch_is_the_largest_that_fits() -> None:
    """A pass takes 100 bytes and 10 for each pair; a fifth of the free bytes stays free."""

    def bytes_of(pairs: int) -> int:
        return 100 + 10 * pairs

    assert [fitting(48, bytes_of, free) for free in (0, 150, 200, 300, 700, 724, 725, 10_000)] == [
        *(1, 2, 4, 8, 32, 32, 48, 48)
    ]
    assert fitting(1, bytes_of, 10_000) == 1
    assert fitting(48, lambda _pairs: 5, 100) == 48


def test_on_a_cpu_the_micro_batch_is_the_usual_one(world: TinyStages, tmp_path: Path) -> None:
    assert chosen_micro_batch(torch.device("cpu"), 48, lambda _: None, 0) == 16
    usual = files(world.run(train, tmp_path / "16", training__steps=1, training__micro_batch=16))
    assert files(world.run(train, tmp_path / "0", training__steps=1, training__micro_batch=0)) == usual


def test_processes_take_the_smallest_of_their_micro_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions are dealt out by its size, so all of them must have the same."""
    monkeypatch.setattr(Processes, "sum", lambda _self, numbers: numbers + torch.tensor([8, 0, 4]))
    assert Processes(1, 3).least(16, torch.device("cpu")) == 4
    assert Processes().least(16, torch.device("cpu")) == 16
