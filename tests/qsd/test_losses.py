"""Losses by hand values, and what must hold for every loss there is."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qsd.config.schema import LossConfig
from qsd.losses import REGISTRY, PairErrors

ERRORS = st.floats(0, 10, width=32)


def errors_of(winner: list[float], loser: list[float], ref_winner: list[float], ref_loser: list[float]) -> PairErrors:
    """Errors that carry gradients where a model's would."""
    return PairErrors(
        torch.tensor(winner, requires_grad=True),
        torch.tensor(loser, requires_grad=True),
        torch.tensor(ref_winner),
        torch.tensor(ref_loser),
    )


def errors_with_logit(logit: float) -> PairErrors:
    """One pair with d = logit: the model has brought the winner's error down from the reference's by it."""
    return errors_of([3.0 - logit], [4.0], [3.0], [4.0])


@pytest.mark.parametrize("scaled_logit", [0.0, 1.0, -1.0, 2.0])
def test_dpo_by_hand(scaled_logit: float) -> None:
    """β = 2 makes the official factor β/2 equal to 1, so the argument of the sigmoid is the logit itself."""
    loss = REGISTRY.get("dpo").function(errors_with_logit(scaled_logit), LossConfig(beta=2.0))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-scaled_logit)), rel=1e-6)


def test_beta_has_the_official_half() -> None:
    loss = REGISTRY.get("dpo").function(errors_of([0.9990], [1.0], [1.0], [1.0]), LossConfig(beta=5000.0))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2.5)), rel=1e-4)


def test_sft_is_the_winner_error() -> None:
    errors = PairErrors(torch.tensor([0.25, 2.0]), torch.tensor([9.0, 9.0]))
    assert REGISTRY.get("sft").function(errors, LossConfig()).tolist() == [0.25, 2.0]
    assert not REGISTRY.get("sft").needs_reference


def test_dpo_is_exactly_log_two_at_the_start() -> None:
    errors = errors_of([0.3, 0.7], [0.1, 2.0], [0.3, 0.7], [0.1, 2.0])
    loss = REGISTRY.get("dpo").function(errors, LossConfig())
    assert loss.tolist() == [torch.tensor(2.0).log().item()] * 2


@pytest.mark.parametrize("name", REGISTRY.names())
@given(st.lists(st.tuples(ERRORS, ERRORS, ERRORS, ERRORS), min_size=1, max_size=5))
def test_every_loss_is_finite_and_pairwise(name: str, rows: list[tuple[float, float, float, float]]) -> None:
    member = REGISTRY.get(name)
    together = errors_of(*(list(column) for column in zip(*rows, strict=True)))
    loss = member.function(together, LossConfig(name=name))
    assert loss.shape == (len(rows),)
    assert loss.dtype == torch.float32
    alone = [member.function(errors_of(*([value] for value in row)), LossConfig(name=name)) for row in rows]
    torch.testing.assert_close(loss, torch.cat(alone))
    loss.sum().backward()
    for error in (together.winner, together.loser):
        assert error.grad is None or error.grad.isfinite().all()


@pytest.mark.parametrize("name", REGISTRY.names())
def test_descent_lowers_the_winner_error_and_never_the_loser_error(name: str) -> None:
    errors = errors_of([0.5], [0.5], [0.5], [0.5])
    REGISTRY.get(name).function(errors, LossConfig(name=name, beta=2.0)).sum().backward()
    assert errors.winner.grad is not None
    assert errors.winner.grad.item() > 0
    assert errors.loser.grad is None or errors.loser.grad.item() <= 0


def test_dpo_pushes_the_loser_error_up() -> None:
    errors = errors_of([0.5], [0.5], [0.5], [0.5])
    REGISTRY.get("dpo").function(errors, LossConfig(beta=2.0)).sum().backward()
    assert errors.loser.grad is not None
    assert errors.loser.grad.item() == pytest.approx(-0.5)


def test_swapping_winner_and_loser_negates_the_logit() -> None:
    errors = errors_of([0.1, 0.2], [0.4, 0.1], [0.2, 0.2], [0.3, 0.5])
    assert errors.ref_winner is not None
    assert errors.ref_loser is not None
    swapped = PairErrors(errors.loser, errors.winner, errors.ref_loser, errors.ref_winner)
    assert swapped.logits.tolist() == (-errors.logits).tolist()


def test_a_loss_that_forgot_to_ask_for_the_reference_is_told() -> None:
    with pytest.raises(ValueError, match="needs_reference"):
        REGISTRY.get("dpo").function(PairErrors(torch.zeros(1), torch.zeros(1)), LossConfig())
