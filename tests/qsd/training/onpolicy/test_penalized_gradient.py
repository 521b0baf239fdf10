"""The penalty of flow_grpo by hand: the divergence, its gradient, and that without a weight it is ddpo."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from qsd.models.adapter import reference
from qsd.models.attention import training_attention
from qsd.training.onpolicy.penalized_gradient import divergence
from tests.qsd.tiny_stages import TinyStages
from tests.qsd.training.onpolicy.onpolicy_world import columns, engine_for


def normal(seed: int) -> torch.Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_the_divergence_is_that_of_two_gaussians() -> None:
    mean, other, std = normal(0), normal(1), torch.tensor([0.5, 2.0]).view(2, 1, 1, 1)
    wide = std.expand_as(mean)
    exact = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, wide), torch.distributions.Normal(other, wide)
    )
    torch.testing.assert_close(divergence(mean, other, std), exact.mean(dim=(1, 2, 3)))
    assert divergence(mean, mean, std).tolist() == [0.0, 0.0]


def test_a_step_without_noise_has_no_divergence_and_no_gradient() -> None:
    mean = normal(0).requires_grad_(True)
    kl = divergence(mean, normal(1), torch.tensor([0.0, 1.0]).view(2, 1, 1, 1))
    kl.sum().backward()
    assert kl[0].item() == 0.0
    assert kl[1].item() > 0
    assert mean.grad is not None
    assert not bool(mean.grad[0].any())
    assert bool(mean.grad.isfinite().all())


# ── In the engine ────────────────────────────────────────────────────────────────────────────────────────────────────


def gradient(method: Any) -> torch.Tensor:
    """Of all parameters, as it was added up."""
    return torch.cat([item.grad.flatten() for item in method.parameters.values()])


def moved(world: TinyStages, name: str, **settings: Any) -> Any:
    """A method whose adapter is no longer fresh."""
    method = engine_for(world, name, **settings).method
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in method.parameters.values():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return method


@pytest.mark.slow
def test_without_a_weight_it_is_ddpo(world: TinyStages) -> None:
    """Bit by bit, in gradients and columns; the reference is not asked, and the divergence not measured."""
    plain, penalized = moved(world, "ddpo"), moved(world, "flow_grpo", method__kl_weight=0.0)
    expected, logged = columns(plain, plain.step(0)), columns(penalized, penalized.step(0))
    assert torch.equal(gradient(penalized), gradient(plain))
    assert {name: logged[name] for name in expected} == expected
    assert logged["kl"] != logged["kl"], "no number"


@pytest.mark.slow
def test_the_gradient_of_the_penalty_is_that_of_the_divergence(world: TinyStages) -> None:
    """Against the network with its adapter off, over every trained step of every trajectory; the rest is ddpo's."""
    weight = 3.0
    plain, method = moved(world, "ddpo"), moved(world, "flow_grpo", method__kl_weight=weight)
    expected, logged = columns(plain, plain.step(0)), columns(method, method.step(0))
    penalty = gradient(method) - gradient(plain)
    _, samples, prompts = method._batch
    rows = prompts.rows(samples.place)

    def mean() -> tuple[torch.Tensor, torch.Tensor]:
        prediction = method.sampler.predict(samples.state, samples.index, rows)
        return method.sampler.gaussian(prediction, samples.state, samples.index)

    with training_attention(method.device, method.config.training.attention):
        with torch.no_grad(), reference(method.denoiser.network):
            base, _ = mean()
        policy, std = mean()
        by_hand = ((policy - base).square() / (2 * std**2)).mean()
        exact = torch.autograd.grad(weight * by_hand, list(method.parameters.values()))
    assert by_hand.item() > 0
    assert logged["kl"] == pytest.approx(by_hand.item(), rel=1e-4)
    assert logged["loss"] == pytest.approx(expected["loss"] + weight * by_hand.item(), rel=1e-3)
    assert {name: logged[name] for name in ("reward", "reward_std", "used", "ratio_distance", "clipped")} == {
        name: expected[name] for name in ("reward", "reward_std", "used", "ratio_distance", "clipped")
    }
    by_parameter = torch.cat([each.flatten() for each in exact])
    assert (penalty - by_parameter).norm() <= 1e-3 * by_parameter.norm()
