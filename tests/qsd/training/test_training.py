"""The training loop on a tiny random model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from qsd.encoding.store import EncodedPairs
from qsd.errors import UserError
from qsd.models.adapter import reference
from qsd.stages.train import run as train
from qsd.training.jsonl_log import NonFiniteLossError
from qsd.training.metrics import read_metrics
from qsd.training.offpolicy.denoising_errors import pair_errors
from qsd.training.optimizer import learning_rate
from tests.qsd import tiny_pipeline
from tests.qsd.tiny_stages import TinyStages, pair_ids, select, trainer

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from qsd.training.engine import Engine
    from qsd.training.offpolicy.method import PairsMethod

LOG_2 = torch.tensor(2.0).log().item()


def state_of(made: Engine[PairsMethod]) -> dict[str, Tensor]:
    """A copy of the adapter."""
    return {name: parameter.detach().clone() for name, parameter in made.method.parameters.items()}


def first_errors(made: Engine[PairsMethod], count: int = 8) -> tuple[Tensor, Tensor]:
    """Logits, and reference errors of winner and loser, of the first pairs of the stream."""
    batch = made.method.stream.batch(0, count, made.method.device)
    errors = pair_errors(made.method.denoiser, batch, True, made.method.config.training.precision)
    assert errors.ref_winner is not None
    assert errors.ref_loser is not None
    return errors.logits, torch.stack([errors.ref_winner, errors.ref_loser])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_fresh_adapter_has_logits_of_zero_and_a_loss_of_log_two(
    world: TinyStages, tmp_path: Path, prediction: str
) -> None:
    model = tiny_pipeline.save(tmp_path / "model", prediction)
    made = trainer(world, model__path=str(model))
    logits, _ = first_errors(made)
    assert logits.tolist() == [0.0] * 8
    means, _ = made.step(0)
    assert means[0].item() == LOG_2


def test_a_fresh_adapter_has_small_logits_in_bf16(world: TinyStages) -> None:
    """β/2 = 2500 multiplies them: 1e-6 moves the argument of the sigmoid by 0.0025."""
    logits, _ = first_errors(trainer(world, training__precision="bf16"))
    assert logits.abs().max().item() <= 1e-6


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_adapter_and_optimiser_are_fp32_and_alone_in_training(world: TinyStages, precision: str) -> None:
    made = trainer(world, training__precision=precision)
    made.step(0)
    trained = {name for name, parameter in made.method.denoiser.network.named_parameters() if parameter.requires_grad}
    assert trained == set(made.method.parameters)
    assert all("lora" in name for name in trained)
    tensors = made.optimizer.tensors()
    assert len(tensors) == 4 * len(trained)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_every_trainable_parameter_moves(world: TinyStages) -> None:
    """A only from the second step on, since B starts at zero."""
    made = trainer(world)
    before = state_of(made)
    made.step(0)
    assert all(not torch.equal(before[name], value) for name, value in state_of(made).items() if "lora_B" in name)
    made.step(1)
    assert all(not torch.equal(before[name], value) for name, value in state_of(made).items())


@pytest.mark.slow
def test_reference_errors_do_not_change_in_training(world: TinyStages) -> None:
    made = trainer(world)
    _, before = first_errors(made)
    for step in range(3):
        made.step(step)
    logits, after = first_errors(made)
    assert torch.equal(before, after)
    assert logits.abs().min() > 0


def test_the_adapter_is_on_again_after_an_exception(world: TinyStages) -> None:
    made = trainer(world)
    made.step(0)
    logits, _ = first_errors(made)
    with pytest.raises(RuntimeError, match="out of memory"), reference(made.method.denoiser.network):
        raise RuntimeError("out of memory")
    assert torch.equal(first_errors(made)[0], logits)
    assert all(parameter.requires_grad for parameter in made.method.parameters.values())


@pytest.mark.slow
def test_the_micro_batch_does_not_change_the_update(world: TinyStages) -> None:
    updates = []
    for micro in (1, 3, 8):
        made = trainer(world, training__micro_batch=micro, training__pairs_per_step=8)
        made.step(0)
        updates.append(state_of(made))
    for other in updates[1:]:
        for name, value in updates[0].items():
            torch.testing.assert_close(other[name], value, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_the_gradient_is_the_mean_of_the_pairs_gradients(world: TinyStages) -> None:
    """AdamW hides the scale of a gradient, so the norm is compared."""
    norms = []
    for micro in (1, 8):
        _, norm = trainer(world, training__micro_batch=micro, training__pairs_per_step=8).step(0)
        norms.append(norm.item())
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["dpo", "sft"])
def test_four_pairs_are_learnt(world: TinyStages, tmp_path: Path, loss: str) -> None:
    few = world.with_inputs(select=select(tmp_path / "select", pair_ids(world)[:4]))
    made = trainer(
        few,
        lora__rank=8,
        lora__targets=["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2"],
        training__learning_rate=5e-3,
        loss__name=loss,
    )
    before, of_reference = first_errors(made, 4)
    for step in range(30):
        made.step(step)
    errors = pair_errors(made.method.denoiser, made.method.stream.batch(0, 4, made.method.device), True, "fp32")
    assert before.tolist() == [0.0] * 4
    if loss == "dpo":
        assert (errors.logits > 0).all()
    else:
        assert (errors.winner < of_reference[0]).all()


def test_sft_spares_the_reference_pass(world: TinyStages, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer(world, loss__name="sft")
    monkeypatch.setattr(
        made.method.denoiser.network, "disable_adapters", lambda: pytest.fail("the reference was computed")
    )
    means, _ = made.step(0)
    assert means[0].item() == means[1].item()
    assert means[3:].isnan().all()


@pytest.mark.slow
def test_weights_multiply_the_loss_and_are_normalised(world: TinyStages, tmp_path: Path) -> None:
    ids = pair_ids(world)
    equal = trainer(world)
    doubled = trainer(world.with_inputs(select=select(tmp_path / "a", ids, [2.0] * len(ids))))
    assert equal.step(0)[0].tolist() == doubled.step(0)[0].tolist()
    heavy = [100.0 if place == 0 else 1.0 for place in range(len(ids))]
    uneven = trainer(world.with_inputs(select=select(tmp_path / "b", ids, heavy)), training__pairs_per_step=len(ids))
    assert uneven.method.stream.batch(0, len(ids), uneven.method.device).weights.mean().item() == pytest.approx(
        1, rel=1e-6
    )
    assert uneven.step(0)[0][0].item() == pytest.approx(LOG_2, rel=1e-5)


def test_a_weight_that_is_no_positive_number_is_named(world: TinyStages, tmp_path: Path) -> None:
    ids = pair_ids(world)
    broken = world.with_inputs(select=select(tmp_path, ids, [1.0] * (len(ids) - 1) + [float("nan")]))
    with pytest.raises(UserError, match=f"weight of pair {ids[-1]}"):
        trainer(broken)


def test_only_selected_pairs_are_used_and_draws_follow_the_epoch(world: TinyStages, tmp_path: Path) -> None:
    ids = pair_ids(world)[:3]
    made = trainer(world.with_inputs(select=select(tmp_path, ids)))
    epochs = [made.method.stream.batch(3 * epoch, 3 * epoch + 3, made.method.device) for epoch in range(2)]
    assert [sorted(batch.pair_ids) for batch in epochs] == [sorted(ids)] * 2
    first, again = (batch.noise[batch.pair_ids.index(ids[0])] for batch in epochs)
    assert not torch.equal(first, again)


def test_a_pair_meets_the_same_numbers_whatever_else_is_selected(world: TinyStages, tmp_path: Path) -> None:
    """Invariant 1, at the place where it matters."""
    ids = pair_ids(world)
    large = trainer(world).method.stream.batch(0, len(ids), torch.device("cpu"))
    small = trainer(world.with_inputs(select=select(tmp_path, ids[4:7]))).method.stream.batch(0, 3, torch.device("cpu"))
    for place, pair_id in enumerate(small.pair_ids):
        there = large.pair_ids.index(pair_id)
        for side in (0, 1):
            here, other = place + side * 3, there + side * len(ids)
            assert torch.equal(small.latents[here], large.latents[other])
            assert torch.equal(small.noise[here], large.noise[other])
            assert small.timesteps[here] == large.timesteps[other]


def test_winner_and_loser_share_timestep_noise_and_caption(world: TinyStages) -> None:
    batch = trainer(world).method.stream.batch(0, 5, torch.device("cpu"))
    for field in (batch.timesteps, batch.noise, batch.conditioning["hidden_states"]):
        assert torch.equal(field[:5], field[5:])
    assert not torch.equal(batch.latents[:5], batch.latents[5:])


def test_dropped_captions_are_the_empty_caption(world: TinyStages) -> None:
    made = trainer(world, training__caption_dropout=1.0)
    empty = EncodedPairs(world.artefacts["encode"]).conditioning(np.zeros(1, dtype=np.int64))["hidden_states"]
    assert torch.equal(
        made.method.stream.batch(0, 1, made.method.device).conditioning["hidden_states"][:1], torch.from_numpy(empty)
    )


def test_pairs_without_an_encoding_are_counted(world: TinyStages, tmp_path: Path) -> None:
    ids = [*pair_ids(world)[:3], "0" * 16]
    made = trainer(world.with_inputs(select=select(tmp_path / "a", ids)))
    assert (len(made.method.stream), made.method.stream.missing) == (3, 1)
    with pytest.raises(UserError, match="none of the 1 selected pairs is encoded"):
        trainer(world.with_inputs(select=select(tmp_path / "b", ["0" * 16])))


def test_an_unknown_target_is_named_with_a_near_one(world: TinyStages) -> None:
    with pytest.raises(UserError, match=r"ends with 'to_qq' \(did you mean 'to_q'\?\)"):
        trainer(world, lora__targets=["to_k", "to_qq"])


@pytest.mark.slow
def test_divergence_stops_with_the_step(world: TinyStages, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match="at step 1") as caught:
        world.run(train, tmp_path, training__learning_rate=1e30)
    assert caught.value.step == 1
    assert len(read_metrics(tmp_path)) == 1


def test_learning_rates(world: TinyStages) -> None:
    recipe = world.config(training__steps=10, training__warmup_steps=4, training__learning_rate=1.0).training
    assert [learning_rate(recipe, step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    recipe.schedule = "cosine"
    rates = [learning_rate(recipe, step) for step in range(4, 10)]
    assert rates[0] == 1.0
    assert rates == sorted(rates, reverse=True)
    assert rates[3] == pytest.approx(0.5)
    recipe.schedule = "linear"
    assert [learning_rate(recipe, step) for step in (4, 7, 9)] == pytest.approx([1.0, 0.5, 1 / 6])


@pytest.mark.slow
def test_the_stage_says_what_beta_multiplies(
    world: TinyStages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.run(train, tmp_path, loss__beta=3000.0, training__steps=1)
    assert "multiplied by 1500" in capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["beta"], summary["effective_beta"], summary["pairs"]) == (3000.0, 1500.0, 12)


@pytest.mark.slow
def test_golden_loss_curve(world: TinyStages, tmp_path: Path) -> None:
    """Twenty steps on the tiny model. A change here is a change of every result: raise the stage's version."""
    world.run(train, tmp_path, training__steps=20, training__caption_dropout=0.2, training__warmup_steps=5)
    losses = [row["loss"] for row in read_metrics(tmp_path)]
    np.testing.assert_allclose(losses, GOLDEN, rtol=2e-3)


GOLDEN = [
    0.693147,
    0.694856,
    0.6388,
    0.689139,
    0.660475,
    0.58363,
    0.753139,
    0.767398,
    0.78886,
    0.87393,
    0.496317,
    1.250187,
    0.717441,
    0.802252,
    0.4642,
    0.656639,
    0.549229,
    0.733622,
    0.537311,
    0.768238,
]
