"""Step preferences and policy gradients by hand values: TailorPO's two gradients, clipping, ranking, advantages."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qsd.config.schema import LossConfig, MethodConfig
from qsd.errors import UserError
from qsd.losses import REGISTRY, PairErrors
from qsd.training.onpolicy.candidates import rank
from qsd.training.onpolicy.policy_gradient import advantages, surrogate
from qsd.training.onpolicy.preferences import StepLoss, fits_steps

STD = torch.full((1, 1, 1, 1), 0.5)


def step_loss(name: str = "dpo", beta: float = 3.0, clip: float = 0.0) -> StepLoss:
    method = MethodConfig(name="tailorpo", beta=beta, ratio_clip=clip)
    return StepLoss.of(SimpleNamespace(method=method, loss=LossConfig(name=name)))


def distance(outcome: Tensor, mean: Tensor) -> Tensor:
    return (outcome - mean).square().mean(dim=(1, 2, 3))


def normal(seed: int) -> Tensor:
    return torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(seed))


def network(state: Tensor, weight: Tensor) -> Tensor:
    """A small network with one matrix of weights: what it predicts is the mean of the step."""
    return torch.tanh(torch.einsum("ij,bjhw->bihw", weight, state))


def update(state_w: Tensor, state_l: Tensor, winner: Tensor, loser: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """(-∇L by the weights, means of winner and loser, 1 - σ(β d)) of a policy that is its own reference."""
    trained = weight.clone().requires_grad_(True)
    means = network(state_w, trained), network(state_l, trained)
    with torch.no_grad():
        references = network(state_w, weight), network(state_l, weight)
    values = step_loss()(
        distance(winner, means[0]),
        distance(loser, means[1]),
        distance(winner, references[0]),
        distance(loser, references[1]),
        STD,
    )
    (gradient,) = torch.autograd.grad(values.loss.sum(), trained)
    return -gradient, means[0].detach(), means[1].detach()


def jacobian_transpose(state: Tensor, weight: Tensor, vector: Tensor) -> Tensor:
    """Jᵀ v of the network by its weights."""
    trained = weight.clone().requires_grad_(True)
    (product,) = torch.autograd.grad(network(state, trained), trained, grad_outputs=vector)
    return product


def test_at_one_state_the_update_points_from_the_loser_to_the_winner() -> None:
    """methods.md 3.1: -∇L = β s / σ² · Jᵀ (x_w - x_l), s = 1/2 at the start, per element of a mean over n."""
    state, winner, loser, weight = normal(0), normal(1), normal(2), torch.eye(2) * 0.7
    descent, *_ = update(state, state, winner, loser, weight)
    count, factor = state.numel(), 3.0 * 0.5 / 0.5**2
    torch.testing.assert_close(descent, factor * jacobian_transpose(state, weight, winner - loser) / count)


def test_at_two_states_it_mixes_two_jacobians() -> None:
    """-∇L = β s / σ² · (J_wᵀ (x_w - μ_w) - J_lᵀ (x_l - μ_l)), which is something else."""
    state_w, state_l, winner, loser, weight = normal(0), normal(5), normal(1), normal(2), torch.eye(2) * 0.7
    descent, mean_w, mean_l = update(state_w, state_l, winner, loser, weight)
    count, factor = state_w.numel(), 3.0 * 0.5 / 0.5**2
    towards_winner = jacobian_transpose(state_w, weight, winner - mean_w)
    from_loser = jacobian_transpose(state_l, weight, loser - mean_l)
    torch.testing.assert_close(descent, factor * (towards_winner - from_loser) / count)
    assert not torch.allclose(descent, factor * jacobian_transpose(state_w, weight, winner - loser) / count, rtol=0.1)


def test_at_two_states_the_update_can_lead_away_from_the_winner() -> None:
    """Where the loser's outcome is far from its mean, its term rules: the winner's mean moves away from the winner."""
    weight = torch.eye(2) * 0.5
    state_w = torch.ones(1, 2, 3, 3)
    winner = network(state_w, weight) + 0.01
    loser = network(state_w, weight) + 1.0
    descent, mean_w, _ = update(state_w, 0.9 * state_w, winner, loser, weight)
    moved = network(state_w, weight + 1e-3 * descent)
    assert float(distance(winner, moved)) > float(distance(winner, mean_w))


def test_a_fresh_policy_has_ratio_one_and_loss_log_two() -> None:
    winner, loser, mean = normal(1), normal(2), normal(0)
    values = step_loss(clip=0.1)(
        distance(winner, mean), distance(loser, mean), distance(winner, mean), distance(loser, mean), STD
    )
    assert values.loss.item() == pytest.approx(math.log(2), abs=1e-7)
    assert (values.winner.item(), values.loser.item(), values.clipped.item()) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("clip", [0.0, 0.1])
def test_the_loss_of_d3po_by_hand(clip: float) -> None:
    """-log σ(β log clip(ρ_w) - β log clip(ρ_l)) with ρ_w = e^0.3 and ρ_l = e^-0.05."""
    log_w, log_l = 0.3, -0.05
    scale = 1 / (2 * 0.5**2)
    ref_w, ref_l = torch.tensor([1.1]), torch.tensor([0.9])
    values = step_loss(beta=0.7, clip=clip)(ref_w - log_w / scale, ref_l - log_l / scale, ref_w, ref_l, STD)
    clipped_w, clipped_l = (
        min(max(ratio, math.log(0.9)), math.log(1.1)) if clip else ratio for ratio in (log_w, log_l)
    )
    assert values.loss.item() == pytest.approx(math.log1p(math.exp(-0.7 * (clipped_w - clipped_l))), abs=1e-6)
    assert values.winner.item() == pytest.approx(log_w, abs=1e-6)
    assert values.clipped.item() == (1.0 if clip else 0.0)


def test_a_clipped_ratio_has_no_gradient() -> None:
    winner = torch.tensor([0.2], requires_grad=True)
    loser = torch.tensor([1.0], requires_grad=True)
    values = step_loss(clip=0.1)(winner, loser, torch.tensor([1.0]), torch.tensor([1.0]), STD)
    values.loss.sum().backward()
    assert winner.grad is not None
    assert loser.grad is not None
    assert winner.grad.item() == 0.0
    assert loser.grad.item() < 0.0


def test_a_deterministic_step_teaches_nothing() -> None:
    winner = torch.tensor([0.2], requires_grad=True)
    values = step_loss(clip=0.1)(winner, winner * 2, torch.tensor([1.0]), torch.tensor([1.0]), torch.zeros(1, 1, 1, 1))
    values.loss.sum().backward()
    assert values.loss.item() == pytest.approx(math.log(2))
    assert winner.grad is not None
    assert winner.grad.item() == 0.0


def test_losses_that_fit_are_those_of_d_alone() -> None:
    """They do not change when both errors of both models change so that d stays."""
    fitting = {name for name in REGISTRY.names() if fits_steps(REGISTRY.get(name))}
    assert fitting == {"cdpo", "dpo", "ipo", "rdpo", "slic"}
    one = PairErrors(*(torch.tensor([value]) for value in (0.3, 0.5, 0.4, 0.45)))
    other = PairErrors(*(torch.tensor([value]) for value in (1.3, 1.9, 2.4, 2.85)))
    torch.testing.assert_close(one.logits, other.logits)
    for name in fitting:
        loss, settings = REGISTRY.get(name), LossConfig(name=name, beta=2.0)
        torch.testing.assert_close(loss.function(one, settings), loss.function(other, settings))


def test_other_losses_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"loss.name 'kto' reads more of a pair than method tailorpo has.*cdpo, dpo"):
        step_loss("kto")


# ── Ranking ──────────────────────────────────────────────────────────────────────────────────────────────────────────

tenths = st.integers(-50, 50).map(lambda number: number / 10)
rewards = st.lists(st.lists(tenths, min_size=3, max_size=3), min_size=2, max_size=6)


@given(rewards)
def test_the_order_is_kept_under_monotone_transforms_of_the_reward(values: list[list[float]]) -> None:
    table = torch.tensor(values)
    plain, other = rank(table, 0.0, 1.0), rank(torch.exp(table.double()), 0.0, 1.0)
    columns = torch.arange(3)
    assert torch.equal(table[plain.best, columns], table[other.best, columns])
    assert torch.equal(table[plain.worst, columns], table[other.worst, columns])
    assert torch.equal(plain.used, table.max(dim=0).values > table.min(dim=0).values)


@given(rewards, st.data())
def test_rewards_that_are_no_numbers_are_never_ranked(values: list[list[float]], data: Any) -> None:
    table = torch.tensor(values)
    bad = data.draw(st.lists(st.tuples(st.integers(0, len(values) - 1), st.integers(0, 2)), max_size=8))
    for row, column in bad:
        table[row, column] = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    order, columns = rank(table, 0.0, 1.0), torch.arange(3)
    used = order.used
    assert bool(torch.isfinite(table[order.best, columns][used]).all())
    assert bool(torch.isfinite(table[order.worst, columns][used]).all())
    assert bool(torch.isfinite(order.gap).all())
    finite = torch.isfinite(table).sum(dim=0)
    assert not bool(used[finite < 2].any())


def test_the_threshold_is_on_the_softmax_of_two_rewards() -> None:
    """softmax(0, 1) differs by tanh(1/2) = 0.462; with the rewards times 2 by 0.762."""
    table = torch.tensor([[0.0], [1.0], [0.5]])
    assert rank(table, 0.46, 1.0).used.item()
    assert not rank(table, 0.47, 1.0).used.item()
    assert rank(table, 0.76, 2.0).used.item()
    assert not rank(table, 0.77, 2.0).used.item()


def test_without_a_threshold_the_scale_decides_nothing() -> None:
    """Not even one so small that the softmax cannot tell the rewards apart."""
    table = torch.tensor([[0.0, 1.0], [1e-20, 1.0]])
    for scale in (1e-30, 1.0, 1e30):
        assert rank(table, 0.0, scale).used.tolist() == [True, False]


# ── DDPO ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_advantages_by_hand() -> None:
    """Rewards 1, 2, 3 and 6 of a prompt: mean 3, population deviation √3.5; then with one that is no number."""
    table = torch.tensor([[1.0, 1.0], [2.0, math.nan], [3.0, 3.0], [6.0, 5.0]])
    standardised, used = advantages(table, 5.0)
    expected = torch.tensor([-2.0, -1.0, 0.0, 3.0]) / math.sqrt(3.5)
    torch.testing.assert_close(standardised[:, 0], expected)
    torch.testing.assert_close(standardised[:, 1], torch.tensor([-2.0, 0.0, 0.0, 2.0]) / math.sqrt(8 / 3))
    assert used[:, 1].tolist() == [True, False, True, True]
    assert advantages(table, 1.0)[0][3, 0].item() == 1.0


def test_equal_rewards_give_no_advantage() -> None:
    standardised, used = advantages(torch.full((3, 2), 0.7), 5.0)
    assert not bool(standardised.any())
    assert not bool(used.any())


def test_the_surrogate_by_hand() -> None:
    """A = ±2, ρ = 1.2 and 0.7, clip 0.1: the clip acts only where it makes the loss larger."""
    ratio = torch.tensor([1.2, 1.2, 0.7, 0.7])
    advantage = torch.tensor([2.0, -2.0, 2.0, -2.0])
    objective = surrogate(ratio.log(), advantage, 0.1)
    torch.testing.assert_close(objective, torch.tensor([-2.2, 2.4, -1.4, 1.8]))
