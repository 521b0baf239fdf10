"""What a loss declares against what the loop does for it: whose gradient it needs, passes of images, operations."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from qsd.config.load import load_experiment
from qsd.config.schema import LossConfig
from qsd.losses import REGISTRY, PairErrors
from qsd.models.adapter import add_adapter
from qsd.models.denoiser import Denoiser, load_denoiser
from qsd.models.encoders import load_text_encoder
from qsd.training.loss_cost import BACKWARD, passes_of
from qsd.training.offpolicy.columns import COLUMNS
from qsd.training.offpolicy.validation import Validation
from qsd.training.processes import Processes
from qsd.training.throughput import count_flops
from tests.qsd.tiny_stages import trainer

if TYPE_CHECKING:
    from torch import Tensor

    from qsd.training.engine import Engine
    from qsd.training.offpolicy.method import PairsMethod
    from tests.qsd.tiny_stages import TinyStages

PAIRS = 4
COUPLED = [name for name in REGISTRY.names() if REGISTRY.get(name).statistics]


def declared(made: Engine[PairsMethod], whole_steps: bool) -> Any:
    return passes_of(made.method.loss, made.method.config.loss, whole_steps)


@pytest.mark.parametrize("name", REGISTRY.names())
def test_a_loss_needs_the_loser_exactly_if_its_gradient_is_not_zero(name: str) -> None:
    loss, settings = REGISTRY.get(name), LossConfig(name=name, beta=20.0)
    table = torch.rand(8, 6, generator=torch.Generator().manual_seed(3))
    winner, loser = table[:2].clone().requires_grad_()
    errors = PairErrors(winner, loser, table[2], table[3], ((table[4], table[5]), (table[6], table[7])))
    if loss.statistics:
        detached = dataclasses.replace(errors, winner=winner.detach(), loser=loser.detach())
        errors = dataclasses.replace(errors, statistics=loss.statistics(detached, settings))
    (gradient,) = torch.autograd.grad(loss.function(errors, settings).sum(), [loser], allow_unused=True)
    assert (gradient is not None and gradient.abs().max().item() > 0) is loss.needs_loser


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "micro_batch"),
    [*((name, PAIRS) for name in REGISTRY.names()), *((name, PAIRS // 2) for name in ("dpo", "sft", *COUPLED))],
)
def test_the_loop_makes_the_passes_that_are_declared(
    world: TinyStages, monkeypatch: pytest.MonkeyPatch, name: str, micro_batch: int
) -> None:
    made = trainer(world, loss__name=name, training__pairs_per_step=PAIRS, training__micro_batch=micro_batch)
    seen: list[tuple[bool, int]] = []
    predict = Denoiser.predict

    def counted(self: Denoiser, noisy: Tensor, *others: Any) -> Tensor:
        prediction = predict(self, noisy, *others)
        seen.append((prediction.requires_grad, len(noisy)))
        return prediction

    monkeypatch.setattr(Denoiser, "predict", counted)
    with made.method.batches:
        made.step(0)
    expected = declared(made, micro_batch == PAIRS)
    assert sum(images for trained, images in seen if trained) == PAIRS * expected.trained
    assert sum(images for trained, images in seen if not trained) == PAIRS * expected.forward
    backward = sum(trained for trained, _ in seen)
    assert len(seen) + backward == expected.calls * PAIRS // micro_batch


@pytest.mark.slow
def test_counted_operations_are_in_the_ratios_of_the_passes(world: TinyStages) -> None:
    """Within 10 %: an adapter costs operations, too, and the first layers take no backward pass."""
    cases = {"dpo": PAIRS, "sft": PAIRS, "orpo": PAIRS, "kto": PAIRS // 2, "adaptive_dpo": PAIRS}
    operations, passes = {}, {}
    for name, micro_batch in cases.items():
        made = trainer(world, loss__name=name, training__pairs_per_step=PAIRS, training__micro_batch=micro_batch)
        with made.method.batches:
            operations[name] = count_flops(lambda made=made: made.step(0))  # type: ignore[misc]
        passes[name] = declared(made, micro_batch == PAIRS).forward_passes
    for name in cases:
        assert operations[name] / operations["dpo"] == pytest.approx(passes[name] / passes["dpo"], rel=0.1), name
    assert operations["sft"] < operations["orpo"] < operations["dpo"] < operations["kto"] < operations["adaptive_dpo"]


@pytest.mark.slow
def test_what_a_backward_pass_of_the_emoji_model_costs() -> None:
    """2.06 passes with gradients for one without, by counted operations: what the constant of all prices rests on."""
    config, cpu = load_experiment(Path("experiments/emoji.yaml")), torch.device("cpu")
    denoiser = load_denoiser(config.model.path, cpu, "fp32", config.model.resolution)
    denoiser.network.requires_grad_(requires_grad=False)
    add_adapter(denoiser.network, config.lora, 0, denoiser.family)
    captions = load_text_encoder(config.model.path, cpu).conditioning(["an apple", "a bee"])
    latents, times = torch.randn(2, 8, 8, 8), torch.full((2,), 500)
    with torch.no_grad():
        forward = count_flops(lambda: denoiser.predict(latents, times, captions))
    both = count_flops(lambda: denoiser.predict(latents, times, captions).square().sum().backward())
    assert both / forward == pytest.approx(2.06, abs=0.01)
    assert both / forward == pytest.approx(1 + BACKWARD, rel=0.03)


@pytest.mark.slow
def test_sft_reports_the_losers_that_it_does_not_train_on(world: TinyStages, monkeypatch: pytest.MonkeyPatch) -> None:
    """And takes the steps that it would take with them in the batch."""

    def rows() -> Tensor:
        made = trainer(world, loss__name="sft", training__learning_rate=3e-3)
        with made.method.batches:
            return torch.stack([torch.cat([means, norm.reshape(1)]) for means, norm in map(made.step, range(4))])

    logged = rows()
    monkeypatch.setitem(vars(REGISTRY.get("sft")), "needs_loser", True)
    expected = rows()
    torch.testing.assert_close(logged, expected, rtol=1e-5, atol=1e-7, equal_nan=True)
    assert (logged[:, COLUMNS.index("loser_error")] > 0).all()


def test_the_passes_of_a_validation_count(world: TinyStages) -> None:
    """The reference is computed at the first one only."""
    made = trainer(world)
    validation = Validation(made.method.denoiser, made.method.stream, made.method.config.training, Processes())
    for passes in (2, 1):
        validation.means(made.method.device)
        assert validation.forwarded == passes * len(made.method.stream)
