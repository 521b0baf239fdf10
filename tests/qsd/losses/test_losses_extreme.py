"""Every loss over every input: finite, bounded in its gradient, and the same however a step is cut."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qsd.config.schema import LossConfig
from qsd.losses import REGISTRY
from tests.qsd.losses.loss_cases import PairErrors, errors_of, rows_of, with_statistics

ERRORS = st.sampled_from([0.0, 1e-30, 1e-7, 0.1, 1e6]) | st.floats(0, 1e6, width=32)
ROWS = st.lists(st.tuples(*[ERRORS] * 8), min_size=1, max_size=5)

BOUNDS: dict[str, Callable[[LossConfig, PairErrors], float | torch.Tensor]] = {
    "adaptive_dpo": lambda s, _: s.beta / 2 / s.adaptive_intercept,
    "alpha_dpo": lambda s, _: s.beta / 2,
    "cdpo": lambda s, _: s.beta / 2 * (1 - s.label_noise),
    "dpo": lambda s, _: s.beta / 2,
    "ipo": lambda s, errors: 2 * (errors.logits.detach().abs() + 1 / (2 * s.ipo_tau)),  # grows with d
    "kto": lambda s, _: s.beta / 16 * max(s.kto_desirable, s.kto_undesirable),
    "linear_dpo": lambda s, _: 1 - s.linear_floor,
    "mapo": lambda s, _: 1 + s.ratio_weight * s.mapo_scale * s.mapo_sharpness / 2,
    "orpo": lambda s, _: 1 + s.ratio_weight * s.beta / 2,
    "rdpo": lambda s, _: s.beta / 2 * (1 - s.label_noise) / (1 - 2 * s.label_noise),
    "sft": lambda s, _: 1,
    "slic": lambda s, _: s.beta / 2,
    "slic_rank": lambda s, _: s.beta / 2 + s.slic_weight,
}
"""The largest derivative by an error, of each loss: a number, or one per pair [B]. A new loss has to state one."""


def errors_from(rows: list[tuple[float, ...]]) -> PairErrors:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return errors_of(*columns[:4], (columns[4], columns[5]), (columns[6], columns[7]))


def settings_for(name: str, count: int, normalizer: str) -> LossConfig:
    return LossConfig(name=name, adaptive_normalizer=normalizer, adaptive_group=count)


CASES = [(name, "step") for name in REGISTRY.names()] + [("adaptive_dpo", other) for other in ("micro_batch", "none")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "normalizer"), CASES)
@settings(max_examples=40)
@given(rows=ROWS)
def test_finite_with_a_bounded_gradient(name: str, normalizer: str, rows: list[tuple[float, ...]]) -> None:
    chosen = settings_for(name, len(rows), normalizer)
    errors = errors_from(rows)
    loss = REGISTRY.get(name).function(with_statistics(errors, chosen), chosen)
    assert loss.shape == (len(rows),)
    assert loss.dtype == torch.float32
    assert loss.isfinite().all()
    loss.sum().backward()
    bound = torch.as_tensor(BOUNDS[name](chosen, errors)).expand(len(rows))
    for error in (errors.winner, errors.loser):
        if error.grad is not None:
            assert (error.grad.abs() <= bound * (1 + 1e-5)).all()


def test_every_loss_has_a_bound_and_no_other_name_has() -> None:
    assert sorted(BOUNDS) == REGISTRY.names()


@pytest.mark.parametrize("name", REGISTRY.names())
@settings(max_examples=25)
@given(rows=ROWS)
def test_a_step_does_not_depend_on_its_micro_batches(name: str, rows: list[tuple[float, ...]]) -> None:
    """The mean over the batch is the mean over single pairs, with the statistics of the whole step."""
    chosen = LossConfig(name=name)
    member, errors = REGISTRY.get(name), with_statistics(errors_from(rows), chosen)
    together = member.function(errors, chosen)
    alone = [member.function(rows_of(errors, row, row + 1), chosen) for row in range(len(rows))]
    torch.testing.assert_close(together, torch.cat(alone))
    assert together.mean().item() == pytest.approx(torch.cat(alone).mean().item(), rel=1e-4, abs=1e-6)
