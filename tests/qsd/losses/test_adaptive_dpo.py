"""Adaptive-DPO: the annotators, the minority metric against the published code, weight, margin and moving averages."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from qsd.config.schema import LossConfig
from qsd.errors import UserError
from qsd.losses import REGISTRY, PairErrors
from qsd.losses._annotators import (
    BINS,
    annotators,
    bin_scales,
    bin_sums,
    bins,
    margin,
    minority,
    step_statistics,
    weight,
)
from qsd.training.ema import ParameterEma, decay_at
from tests.qsd.losses.loss_cases import errors_of, errors_with_logit, evaluate, rows_of, with_statistics

GENERATOR = torch.Generator().manual_seed(0)


def of(**settings: Any) -> LossConfig:
    return LossConfig(**{"name": "adaptive_dpo", "beta": 2000.0, **settings})


def random_errors(count: int, size: float = 1e-3) -> PairErrors:
    """A model and two averages that differ from the reference by about ``size``."""
    reference = [torch.rand(count, generator=GENERATOR) for _ in range(2)]
    near = [(reference[place] + size * torch.randn(3, count, generator=GENERATOR)).tolist() for place in range(2)]
    copies = [(near[0][row], near[1][row]) for row in (1, 2)]
    return errors_of(near[0][0], near[1][0], reference[0].tolist(), reference[1].tolist(), *copies)


def published(errors: PairErrors, rho: float, slope: float, beta: float) -> torch.Tensor:
    """The loss per pair of the recipe in dpo_train_un.py, written down on its own; β without the half."""
    logits = torch.stack([errors.logits.detach(), *errors.averaged_logits()]).double()
    scaled = rho * logits / logits.norm(dim=1, keepdim=True)
    deviation = ((scaled - scaled.mean(dim=0)).square().sum(dim=0) / 2).sqrt().minimum(torch.tensor(1.0))
    metric = (1 - torch.sigmoid(scaled).mean(dim=0)) * deviation
    argument = beta * logits[0] - (logits[0].mean() - metric**2 / beta)
    return -torch.log(torch.sigmoid(argument)) / (slope * metric + 1)


def test_the_published_code_as_one_option() -> None:
    errors = random_errors(16)
    loss = evaluate(errors, of(adaptive_normalizer="micro_batch"))
    torch.testing.assert_close(loss.double(), published(errors, 15.0, 10.0, 1000.0), rtol=1e-4, atol=1e-6)


def test_the_default_is_the_published_code_when_a_step_is_one_micro_batch_of_its_size() -> None:
    errors = random_errors(16)
    torch.testing.assert_close(evaluate(errors, of()), evaluate(errors, of(adaptive_normalizer="micro_batch")))


def test_the_published_metric_depends_on_the_micro_batch_and_the_default_does_not() -> None:
    errors = random_errors(64)
    halves = [rows_of(with_statistics(errors, of()), start, start + 32) for start in (0, 32)]
    default = of()
    cut = torch.cat([minority(half, default) for half in halves])
    torch.testing.assert_close(cut, minority(with_statistics(errors, default), default))
    old = {size: of(adaptive_normalizer="micro_batch", adaptive_group=size) for size in (32, 64)}
    assert not torch.allclose(
        torch.cat([minority(half, old[32]) for half in halves]), minority(errors, old[64]), rtol=0.1
    )


def test_the_published_normalizer_demands_its_micro_batch() -> None:
    with pytest.raises(
        UserError, match=r"a micro-batch of 3 pairs.*adaptive_group = 16; set training\.micro_batch to 16"
    ):
        minority(random_errors(3), of(adaptive_normalizer="micro_batch"))


def test_the_metric_by_hand() -> None:
    """a = (0, 1, -1) without normaliser and ρ = 1: mean σ = 1/2, std = 1, so u = 1/2; equal annotators give 0."""
    errors = errors_of(
        [1.0, 1.0], [1.0, 3.0], [1.0, 1.0], [1.0, 1.0], ([1.0, 1.0], [2.0, 3.0]), ([2.0, 1.0], [1.0, 3.0])
    )
    settings = of(adaptive_normalizer="none", adaptive_rho=1.0)
    assert minority(errors, settings).tolist() == pytest.approx([0.5, 0.0])


def test_disagreement_with_the_label_raises_the_metric() -> None:
    """The same spread around a negative d is more suspect than around a positive one, and the deviation counts to 1."""
    values = [(-3.0, -2.5, -3.5), (3.0, 3.5, 2.5), (-3.0, 90.0, -90.0)]
    columns = list(zip(*values, strict=True))
    ones = [100.0] * 3
    first, second, third = ([100.0 - d for d in column] for column in columns)
    errors = errors_of(first, ones, ones, ones, (second, ones), (third, ones))
    wrong, right, wild = minority(errors, of(adaptive_normalizer="none", adaptive_rho=1.0)).tolist()
    assert wrong == pytest.approx(0.5 * 0.949135, rel=1e-5)
    assert right == pytest.approx(0.5 * 0.050865, rel=1e-4)
    assert wild == pytest.approx(1 - (0.047426 + 1 + 0) / 3, rel=1e-4)


def test_a_fresh_adapter_has_the_full_weight() -> None:
    errors = with_statistics(errors_with_logit(0.0, 0.0), of())
    assert minority(errors, of()).tolist() == [0.0, 0.0]
    assert evaluate(errors, of()).tolist() == pytest.approx([math.log(2)] * 2)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("linear", [1.0, 1 / 3.5, 1 / 11]),
        ("quadratic", [1.0, 1 / 1.625, 1 / 11]),
        ("sqrt", [0.5, 1 / (math.exp(5) + 1), 1 / (math.exp(10) + 1)]),
        ("exponential", [0.5, 1 / (math.exp(2.5) + 1), 1 / (math.exp(10) + 1)]),
    ],
)
def test_weights_by_hand(form: str, expected: list[float]) -> None:
    assert weight(torch.tensor([0.0, 0.25, 1.0]), of(adaptive_weight=form)).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("form", "expected"),
    [("quadratic", 0.002 - 0.25 / 1000), ("linear", 0.002 - 0.5 / 1000), ("scaled", 2.0 - 3 * 0.25), ("none", 0.0)],
)
def test_margins_by_hand(form: str, expected: float) -> None:
    """u = 1/2, mean of d = 0.002, β/2 = 1000, k = 3."""
    settings = of(adaptive_margin=form, adaptive_margin_weight=3.0)
    margins = margin(torch.tensor([0.5]), torch.tensor([9.0]), torch.tensor([0.002, 1.0, 1.0, 1.0]), settings)
    assert margins.tolist() == pytest.approx([expected])


def test_the_published_margin_is_next_to_nothing() -> None:
    """At β = 2000 it moves the loss of typical pairs by less than a part in a thousand."""
    errors = random_errors(16)
    without = evaluate(errors, of(adaptive_margin="none"))
    torch.testing.assert_close(evaluate(errors, of()), without, rtol=2e-3, atol=1e-4)
    scaled = evaluate(errors, of(adaptive_margin="scaled"))
    assert ((scaled - without).abs() / without).max() > 0.05


def test_no_slope_and_no_margin_is_dpo() -> None:
    errors = random_errors(8)
    plain = evaluate(errors, of(adaptive_slope=0.0, adaptive_margin="none"))
    assert plain.tolist() == evaluate(errors, LossConfig(name="dpo", beta=2000.0)).tolist()


def test_weight_and_margin_carry_no_gradient() -> None:
    """The gradient by d is that of weighted DPO with both held fixed."""
    errors = with_statistics(random_errors(8), of())
    REGISTRY.get("adaptive_dpo").function(errors, of()).sum().backward()
    metric = minority(errors, of())
    assert errors.statistics is not None
    argument = 1000 * errors.logits.detach() - margin(metric, errors.logits, errors.statistics, of())
    assert errors.winner.grad is not None
    torch.testing.assert_close(errors.winner.grad, 1000 * weight(metric, of()) * torch.sigmoid(-argument))


def test_statistics_are_the_mean_and_the_root_mean_squares() -> None:
    errors = errors_with_logit(3.0, 1.0)
    assert step_statistics(errors, of()).tolist() == pytest.approx([2.0, math.sqrt(5), 0.0, 0.0])
    with pytest.raises(ValueError, match="moving averages"):
        step_statistics(dataclasses.replace(errors, averaged=()), of())


def weights_of(*values: float) -> dict[str, nn.Parameter]:
    return {f"layer{place}": nn.Parameter(torch.full((3,), value)) for place, value in enumerate(values)}


@pytest.mark.parametrize("decay", [0.9999, 0.5, 0.0])
def test_averages_are_those_of_diffusers(decay: float) -> None:
    parameters = weights_of(1.0, -2.0)
    ours, theirs = ParameterEma(parameters, [decay]), EMAModel(parameters.values(), decay=decay)
    for step in range(30):
        for parameter in parameters.values():
            parameter.data += torch.randn(3, generator=GENERATOR)
        ours.update(step)
        theirs.step(parameters.values())
        for shadow, average in zip(theirs.shadow_params, ours.tensors().values(), strict=True):
            torch.testing.assert_close(average, shadow)


def test_decay_warms_up() -> None:
    assert [decay_at(step, 0.9999) for step in (0, 1, 90)] == [0.0, 2 / 11, 0.91]
    assert decay_at(8, 0.5) == decay_at(10**6, 0.5) == 0.5


def test_swapped_weights_are_back_even_after_an_error() -> None:
    parameters = weights_of(1.0)
    averages = ParameterEma(parameters, [0.5])
    optimiser = torch.optim.SGD(parameters.values(), lr=1.0)
    parameters["layer0"].data.fill_(5.0)

    def fail_inside() -> None:
        with averages.swapped(0):
            assert parameters["layer0"].tolist() == [1.0] * 3
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_inside()
    assert parameters["layer0"].tolist() == [5.0] * 3
    parameters["layer0"].sum().backward()
    optimiser.step()
    assert parameters["layer0"].tolist() == [4.0] * 3
    assert next(iter(averages.tensors().values())).tolist() == [1.0] * 3


def test_averages_continue_from_a_checkpoint() -> None:
    parameters = weights_of(1.0, 2.0)
    averages, fresh = ParameterEma(parameters, [0.9, 0.5]), ParameterEma(weights_of(0.0, 0.0), [0.9, 0.5])
    for step in range(3):
        parameters["layer1"].data += 1
        averages.update(step)
    stored = {name: tensor.clone() for name, tensor in averages.tensors().items()}
    fresh.load_tensors({**stored, "adapter/other": torch.zeros(1)})
    assert {name: tensor.tolist() for name, tensor in fresh.tensors().items()} == {
        name: tensor.tolist() for name, tensor in stored.items()
    }
    assert len(stored) == 4
    assert averages.decays == (0.9, 0.5)


def test_no_decays_cost_nothing() -> None:
    averages = ParameterEma(weights_of(1.0), [])
    averages.update(0)
    assert averages.tensors() == {}


def test_bins_are_equal_parts_of_the_timesteps_and_a_flow_has_those_of_its_sigma() -> None:
    steps = torch.tensor([0, 124, 125, 499, 500, 999])
    assert bins(steps).tolist() == [0, 0, 1, 3, 4, 7]
    assert bins(steps / 1000).tolist() == bins(steps).tolist()
    assert bins(torch.tensor([0.0, 0.99, 1.0])).tolist() == [0, 7, 7]


def test_the_scale_of_a_bin_is_the_root_mean_square_of_its_pairs() -> None:
    timesteps = torch.tensor([10, 20, 990])
    sums = bin_sums(torch.tensor([[3.0, 4.0, 0.5], [1.0, 1.0, 2.0]]), timesteps)
    assert sums[0].tolist() == [2, 0, 0, 0, 0, 0, 0, 1]
    scales = bin_scales(sums)
    assert scales[0].tolist() == [pytest.approx(math.sqrt(12.5)), 0, 0, 0, 0, 0, 0, 0.5]
    assert scales[1].tolist() == [1, 0, 0, 0, 0, 0, 0, 2]
    with pytest.raises(ValueError, match=r"errors\.timesteps"):
        bin_sums(torch.ones(1, 2), None)


def by_timestep(errors: PairErrors, timesteps: list[int]) -> PairErrors:
    """The errors with the statistics of the normalizer ``timestep``, made of these pairs alone."""
    errors = dataclasses.replace(errors, timesteps=torch.tensor(timesteps))
    scales = bin_scales(bin_sums(annotators(errors), errors.timesteps)).flatten()
    return dataclasses.replace(errors, statistics=torch.cat([step_statistics(errors, of()), scales]))


def test_with_all_pairs_in_one_bin_the_scale_by_timestep_is_that_of_the_step() -> None:
    errors = by_timestep(random_errors(16), [7] * 16)
    settings = of(adaptive_normalizer="timestep")
    step = dataclasses.replace(errors, statistics=step_statistics(errors, of()))
    torch.testing.assert_close(minority(errors, settings), minority(step, of()))


def test_a_late_timestep_has_a_metric_of_its_own_size() -> None:
    """Of a d a hundred times smaller, one scale makes the metric vanish, and a scale for each bin leaves it."""
    early = random_errors(8, 0.05)
    rows = [
        column.detach()
        for column in (early.winner, early.loser, early.ref_winner, early.ref_loser)
        if column is not None
    ]
    small = [rows[place] + 0.01 * (rows[place - 2] - rows[place]) for place in (2, 3)]
    copies = [
        tuple(torch.cat([copy[side], rows[2 + side] + 0.01 * (copy[side] - rows[2 + side])]) for side in (0, 1))
        for copy in early.averaged
    ]
    both = PairErrors(
        torch.cat([rows[0], small[0]]),
        torch.cat([rows[1], small[1]]),
        torch.cat([rows[2], rows[2]]),
        torch.cat([rows[3], rows[3]]),
        tuple((winner, loser) for winner, loser in copies),
    )
    settings = of(adaptive_normalizer="timestep")
    judged = by_timestep(both, [0] * 8 + [900] * 8)
    metric = minority(judged, settings)
    torch.testing.assert_close(metric[:8], metric[8:], rtol=0.01, atol=1e-3)
    assert metric.max() > 0.2
    one_scale = minority(dataclasses.replace(judged, statistics=step_statistics(judged, of())), of())
    assert one_scale[8:].max() < 0.05


def test_a_fresh_adapter_is_not_suspected_by_timestep_either() -> None:
    zeros = by_timestep(errors_with_logit(0.0, 0.0), [1, 900])
    settings = of(adaptive_normalizer="timestep")
    assert minority(zeros, settings).tolist() == [0.0, 0.0]
    assert REGISTRY.get("adaptive_dpo").function(zeros, settings).tolist() == pytest.approx([math.log(2)] * 2)


@pytest.mark.parametrize("lacking", ["timesteps", "scales"])
def test_scales_by_timestep_need_timesteps_and_scales(lacking: str) -> None:
    errors = by_timestep(random_errors(4), [1, 2, 3, 999])
    assert errors.statistics is not None
    assert len(errors.statistics) == 1 + 3 * (1 + BINS)
    without = {"timesteps": {"timesteps": None}, "scales": {"statistics": errors.statistics[:4]}}[lacking]
    with pytest.raises(ValueError, match=r"needs errors\.timesteps, and a scale by bin"):
        minority(dataclasses.replace(errors, **without), of(adaptive_normalizer="timestep"))
