"""Guidance: it raises the reward, along the gradient, by the length that is asked for; what it refuses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from qsd.config.schema import RewardConfig
from qsd.errors import UserError
from qsd.models.decoder import ImageDecoder
from qsd.models.pipeline import pipeline_family
from qsd.training.onpolicy.guidance import guide
from qsd.training.onpolicy.rewards import LatentReward
from tests.qsd import tiny_pipeline
from tests.qsd.tiny_world import write_rewards

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TARGET = torch.linspace(-1, 1, 12).view(3, 2, 2)
CAPTIONS = ["a cat", "a dog", "a fox"]


class Distance:
    """A toy: r(x) = -|x - target|² / 2, whose gradient is target - x."""

    def require_gradient(self) -> None:
        """It has one."""

    def score_with_gradient(self, latents: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
        assert len(latents) == len(captions)
        return -((latents - TARGET) ** 2).flatten(1).sum(dim=1) / 2


def samples(seed: int = 0) -> torch.Tensor:
    return torch.randn(3, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


def halved(state: torch.Tensor) -> torch.Tensor:
    """A toy prediction of the clean sample; the chain rule gives the gradient (target - x/2) / 2."""
    return state / 2


@pytest.mark.parametrize("r_high", [None, 0.0, 100.0])
def test_the_move_by_hand(r_high: float | None) -> None:
    state, lengths = samples(), torch.tensor([0.1, 0.2, 0.3])
    with torch.no_grad():
        moved, before = guide(state, halved, Distance(), CAPTIONS, lengths, r_high)
    way = TARGET - state / 2
    expected = state + lengths.view(3, 1, 1, 1) * way / way.flatten(1).norm(dim=1).view(3, 1, 1, 1)
    torch.testing.assert_close(moved, expected)
    torch.testing.assert_close(before, Distance().score_with_gradient(state / 2, CAPTIONS))
    assert not moved.requires_grad
    assert not before.requires_grad
    one, _ = guide(state, halved, Distance(), CAPTIONS, 0.2, r_high)
    torch.testing.assert_close(one[1], expected[1])


def test_the_direction_is_that_of_equation_14() -> None:
    """Finite differences of (r_high - r)² along each axis."""
    state, r_high = samples().double(), 3.0

    def objective(point: torch.Tensor) -> torch.Tensor:
        return (r_high - Distance().score_with_gradient(halved(point), CAPTIONS)) ** 2

    slopes = torch.zeros_like(state)
    for place in torch.cartesian_prod(*(torch.arange(size) for size in state.shape[1:])).tolist():
        step = torch.zeros_like(state)
        step[:, place[0], place[1], place[2]] = 1e-5
        slopes[:, place[0], place[1], place[2]] = (objective(state + step) - objective(state - step)) / 2e-5
    moved, _ = guide(state, halved, Distance(), CAPTIONS, 1.0, r_high)
    expected = -slopes / slopes.flatten(1).norm(dim=1).view(3, 1, 1, 1)
    torch.testing.assert_close(moved - state, expected, atol=1e-6, rtol=1e-4)


def test_an_aim_below_a_reward_is_refused_and_reached_is_left_alone() -> None:
    state = samples()
    highest = float(Distance().score_with_gradient(state, CAPTIONS).max())
    with pytest.raises(UserError, match=rf"r_high is -50, but a sample has the reward {highest:.6g}.*would lower it"):
        guide(state, torch.Tensor.clone, Distance(), CAPTIONS, 0.1, -50)
    state[0] = TARGET
    moved, before = guide(state, torch.Tensor.clone, Distance(), CAPTIONS, 0.1, 0.0)
    assert torch.equal(moved[0], state[0]), "the gradient is zero there"
    assert before[0] == 0
    assert (moved[1:] != state[1:]).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("r_high", [None, 100.0])
def test_a_sample_without_a_finite_reward_stays_and_moves_no_other(value: float, r_high: float | None) -> None:
    state = samples()
    whole, _ = guide(state, halved, Distance(), CAPTIONS, 0.1, r_high)
    state[1, 0, 0, 0] = value
    moved, before = guide(state, halved, Distance(), CAPTIONS, 0.1, r_high)
    torch.testing.assert_close(moved[1], state[1], equal_nan=True)
    torch.testing.assert_close(moved[[0, 2]], whole[[0, 2]])
    assert before.isfinite().tolist() == [True, False, True]


def test_a_finite_reward_with_an_infinite_gradient_is_told() -> None:
    """√|x| has an infinite slope at 0."""

    class Root(Distance):
        def score_with_gradient(self, latents: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
            return latents.flatten(1).sum(dim=1).sqrt()

    state = samples().abs()
    state[2] = 0
    moved, before = guide(state, torch.Tensor.clone, Root(), CAPTIONS, 0.1)
    assert torch.equal(moved[2], state[2])
    assert before.isfinite().tolist() == [True, True, False]


@pytest.mark.parametrize("model", ["clip_emoji", "aesthetic_emoji"])
def test_it_raises_the_step_reward_through_network_and_vae(tmp_path: Path, model: str) -> None:
    pipeline = tiny_pipeline.pipeline()
    pipeline.unet.requires_grad_(False).eval()
    decoder = ImageDecoder(pipeline.vae.requires_grad_(False).eval(), torch.device("cpu"), pipeline_family(pipeline))
    reward = LatentReward(RewardConfig(model=model, weights=str(write_rewards(tmp_path))), decoder, 8)
    generator = torch.Generator().manual_seed(0)
    state = torch.randn(3, *tiny_pipeline.LATENT_SHAPE, generator=generator)
    conditioning = torch.randn(3, 4, 16, generator=generator)

    def clean(latents: torch.Tensor) -> torch.Tensor:
        """ᾱ = 0.5."""
        noise = pipeline.unet(latents, 400, encoder_hidden_states=conditioning).sample
        return (latents - math.sqrt(0.5) * noise) / math.sqrt(0.5)

    def scored(latents: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return reward.score(clean(latents), CAPTIONS)

    length = 0.05 * math.sqrt(state[0].numel())
    moved, before = guide(state, clean, reward, CAPTIONS, length)
    torch.testing.assert_close(before, scored(state), atol=1e-6, rtol=0)
    torch.testing.assert_close((moved - state).flatten(1).norm(dim=1), torch.full((3,), length))
    gained = scored(moved) - before
    assert (gained > 0).all(), gained
    way = torch.randn(state.shape, generator=generator)
    way *= length / way.flatten(1).norm(dim=1).view(3, 1, 1, 1)
    assert (gained > (scored(state + way) - before).abs()).all(), "more than any other move of its length"
    backwards = scored(2 * state - moved) - before
    assert (backwards < 0).all(), "down the gradient it falls"
    assert all(parameter.grad is None for parameter in pipeline.unet.parameters())


def test_a_reward_without_gradient_is_refused_by_name(tmp_path: Path) -> None:
    pipeline = tiny_pipeline.pipeline()
    decoder = ImageDecoder(pipeline.vae, torch.device("cpu"), pipeline_family(pipeline))
    reward = LatentReward(RewardConfig(model="jpeg_size", weights=str(tmp_path)), decoder, 8)
    with pytest.raises(UserError, match="jpeg_size has no gradient"):
        guide(torch.zeros(1, *tiny_pipeline.LATENT_SHAPE), torch.Tensor.clone, reward, [""], 0.1)
    assert reward.calls == 0
