"""Linear-DPO: against the published script, written down on its own; its weight, its bounds, its moving reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from qsd.config.schema import LossConfig
from qsd.losses import REGISTRY, PairErrors
from tests.qsd.losses.loss_cases import errors_of, errors_with_logit, evaluate

GENERATOR = np.random.default_rng(0)


def of(**settings: Any) -> LossConfig:
    return LossConfig(**{"name": "linear_dpo", "beta": 100.0, **settings})


def published(rows: np.ndarray, beta: float, eta: float) -> tuple[np.ndarray, np.ndarray]:
    """Loss and derivative by the winner's error of each pair, in NumPy; rows e_w, e_l, ref_w, ref_l, each [B]."""
    of_model, of_reference = rows[0] - rows[1], rows[2] - rows[3]
    ratio = np.minimum(np.maximum(0.2 * beta * (of_model - of_reference) + 0.5, eta), 1 - eta)
    return ratio * of_model, ratio


@pytest.mark.parametrize("eta", [1e-3, 0.0, 0.2])
@pytest.mark.parametrize("beta", [100.0, 5000.0])
def test_the_published_script(beta: float, eta: float) -> None:
    """Differences from far inside the line to far beyond its ends."""
    rows = GENERATOR.uniform(0.1, 1.0, size=(4, 64))
    rows[2:] = rows[:2] + GENERATOR.normal(size=(2, 64)) * np.logspace(-6, -1, 64)
    errors = errors_of(*rows.astype(np.float32).tolist())
    loss = evaluate(errors, of(beta=beta, linear_floor=eta))
    loss.sum().backward()
    expected, slope = published(rows.astype(np.float32).astype(np.float64), beta, eta)
    assert errors.winner.grad is not None
    assert errors.loser.grad is not None
    np.testing.assert_allclose(errors.winner.grad.numpy(), slope, rtol=1e-4, atol=1e-4 * beta / 5000)
    np.testing.assert_allclose(errors.loser.grad.numpy(), -slope, rtol=1e-4, atol=1e-4 * beta / 5000)
    np.testing.assert_allclose(loss.detach().numpy(), expected, rtol=1e-3, atol=1e-4 * beta / 5000)


def test_the_weight_by_hand() -> None:
    """0.2 β = 0.4: 1/2 - 0.4 d, cut off at 0.1 and 0.9; no pair is given up or trusted without limit."""
    errors = errors_with_logit(-9.0, -0.5, 0.0, 0.5, 9.0)
    evaluate(errors, of(beta=2.0, linear_floor=0.1)).sum().backward()
    assert errors.winner.grad is not None
    assert errors.winner.grad.tolist() == pytest.approx([0.9, 0.7, 0.5, 0.3, 0.1])


def test_a_moving_average_as_the_reference() -> None:
    """The base model cancels: the weight compares the model with its average alone."""
    given = ([0.30, 0.4], [0.5, 0.2], [0.9, 0.1], [0.7, 0.6])
    average = ([0.31, 0.38], [0.52, 0.21])
    moving = evaluate(errors_of(*given, average), of(linear_decay=0.99))
    frozen = evaluate(errors_of(given[0], given[1], *average), of())
    torch.testing.assert_close(moving, frozen)


def test_the_average_is_asked_for_only_where_it_is_read() -> None:
    averages = REGISTRY.get("linear_dpo").averages
    assert averages is not None
    assert averages(of()) == ()
    assert averages(of(linear_decay=0.99)) == (0.99,)
    with pytest.raises(ValueError, match=r"moving average in errors\.averaged"):
        REGISTRY.get("linear_dpo").function(PairErrors(*(torch.zeros(1) for _ in range(4))), of(linear_decay=0.99))
