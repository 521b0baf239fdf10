"""The flow process by hand formulas, its step against diffusers' and Flow-GRPO's, and the law of the noise levels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from qsd.config.schema import TrainingConfig
from qsd.models.flow_process import FlowProcess, FlowSampler
from qsd.training.offpolicy.noise_levels import noise_levels

SHIFT = 3.0


def process() -> FlowProcess:
    """With the shift of SD3."""
    return FlowProcess(FlowSampler(shift=SHIFT))


def normal(seed: int, count: int = 2) -> list[Tensor]:
    """Some tensors [3, 4, 8, 8] of standard normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 4, 8, 8, generator=generator) for _ in range(count)]


def test_noising_target_and_x0_by_hand() -> None:
    made, sigma = process(), torch.tensor([0.0, 0.3, 1.0])
    latents, noise = normal(0)
    noisy, target = made.add_noise(latents, noise, sigma), made.target(latents, noise, sigma)
    for row, value in enumerate([0.0, 0.3, 1.0]):
        torch.testing.assert_close(noisy[row], (1 - value) * latents[row] + value * noise[row], rtol=0, atol=1e-6)
    assert torch.equal(noisy[0], latents[0])
    assert torch.equal(noisy[2], noise[2])
    assert torch.equal(target, noise - latents)
    torch.testing.assert_close(made.x0(noisy, target, sigma), latents, rtol=0, atol=1e-6)


def test_times_are_the_noise_levels() -> None:
    times = process().times(np.array([0.0, 0.25, 0.9]))
    assert times.dtype == np.float32
    assert times.tolist() == [0.0, 0.25, np.float32(0.9)]


def test_the_sampler_is_diffusers_with_the_models_shift() -> None:
    """From noise to the clean image; without noise of its own a step is the pipeline's, bit for bit."""
    theirs = FlowMatchEulerDiscreteScheduler(shift=SHIFT)
    theirs.set_timesteps(5)
    made, steps = process(), process().sampling_times(5)
    assert [begin for begin, _ in steps] == theirs.sigmas[:-1].tolist()
    assert [end for _, end in steps] == theirs.sigmas[1:].tolist()
    assert (steps[0][0], steps[-1][1]) == (1.0, 0.0)
    for number, (begin, end) in enumerate(steps):
        prediction, noisy = normal(number)
        mean, std = made.step(prediction, noisy, torch.full((3,), begin), torch.full((3,), end), 0.0)
        assert torch.equal(mean, theirs.step(prediction, theirs.timesteps[number], noisy).prev_sample)
        assert std.tolist() == [[[[0.0]]]] * 3


def flow_grpo_step(
    velocity: Tensor, sample: Tensor, sigma: float, following: float, second: float, a: float
) -> tuple[Tensor, float]:
    """Mean and standard deviation as in yifan123/flow_grpo, sd3_sde_with_logprob.py, restated in fp64."""
    s = a * math.sqrt(sigma / (1 - (second if sigma == 1 else sigma)))
    dt = following - sigma
    mean = sample.double() * (1 + s**2 / (2 * sigma) * dt)
    mean = mean + velocity.double() * (1 + s**2 * (1 - sigma) / (2 * sigma)) * dt
    return mean, s * math.sqrt(-dt)


def test_a_step_with_noise_is_flow_grpos() -> None:
    """At every step of a sampling in ten, the first from σ = 1 and the last to 0; rows are apart from one another."""
    made, steps = process(), process().sampling_times(10)
    for number, (begin, end) in enumerate(steps):
        prediction, noisy, noise = normal(number, 3)
        time, following = torch.tensor([begin, 0.5, 0.4]), torch.tensor([end, 0.25, 0.3])
        mean, std = made.step(prediction, noisy, time, following, 0.7)
        assert mean.dtype == std.dtype == torch.float32
        for row, (sigma, after) in enumerate([(begin, end), (0.5, 0.25), (0.4, 0.3)]):
            wanted, deviation = flow_grpo_step(prediction[row], noisy[row], sigma, after, steps[1][0], 0.7)
            torch.testing.assert_close(mean[row].double(), wanted, rtol=0, atol=2e-6)
            assert std[row].item() == pytest.approx(deviation, rel=1e-5)
        outcome = mean + std * noise
        density = torch.distributions.Normal(mean, std).log_prob(outcome).flatten(1).mean(dim=1)
        torch.testing.assert_close(made.log_prob(outcome, mean, std), density)


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_a_step_is_finite_at_pure_noise_and_at_the_clean_image(eta: float) -> None:
    """From 1 in many steps and in one, to 0 and at 0; the last leads nowhere and adds nothing."""
    ends = [(1.0, 0.999), (1.0, 0.0), (1e-6, 0.0), (0.0, 0.0)]
    begin, end = (torch.tensor(times) for times in zip(*ends, strict=True))
    prediction, noisy = (tensor[:1].expand(4, -1, -1, -1) for tensor in normal(5))
    mean, std = process().step(prediction, noisy, begin, end, eta)
    assert bool(mean.isfinite().all())
    assert bool(std.isfinite().all())
    assert bool((std[:3] > 0).all()) == (eta > 0)
    assert std[3].item() == 0.0
    assert torch.equal(mean[3], noisy[3])
    assert bool(process().log_prob(mean, mean, std).isfinite().all())


def test_a_step_is_fp32_whatever_it_gets() -> None:
    prediction, noisy = (tensor.bfloat16() for tensor in normal(1))
    mean, std = process().step(prediction, noisy, torch.full((3,), 0.5), torch.full((3,), 0.4), 0.7)
    assert mean.dtype == std.dtype == torch.float32
    exact, _ = process().step(prediction.float(), noisy.float(), torch.full((3,), 0.5), torch.full((3,), 0.4), 0.7)
    assert torch.equal(mean, exact)


def test_the_sampler_keeps_latents_fp32() -> None:
    """diffusers' own rounds them to the type of the network's output."""
    latents, prediction = normal(3)
    made = FlowSampler(shift=SHIFT)
    made.set_timesteps(3)
    stepped = made.step(prediction.bfloat16(), made.timesteps[0], latents, return_dict=False)[0]
    assert stepped.dtype == torch.float32


# ── The law of the noise levels ──────────────────────────────────────────────────────────────────────────────────────


def recipe(**settings: object) -> TrainingConfig:
    """A training section."""
    return TrainingConfig(steps=1, learning_rate=1e-3, **settings)  # type: ignore[arg-type]


def test_the_default_changes_no_draw() -> None:
    draws = np.random.default_rng(0).random(100)
    assert noise_levels(draws, recipe()) is draws


def test_a_logit_normal_law_has_a_normal_logit() -> None:
    draws = (np.arange(20_000) + 0.5) / 20_000
    levels = noise_levels(draws, recipe(noise_law="logit_normal"))
    logits = np.log(levels / (1 - levels))
    assert logits.mean() == pytest.approx(0, abs=1e-3)
    assert logits.std() == pytest.approx(1, abs=1e-3)
    assert (np.diff(levels) > 0).all(), "more of the draw is more noise: draws stay stratified"
    edges = noise_levels(np.array([0.0, np.nextafter(1.0, 0.0)]), recipe(noise_law="logit_normal"))
    assert (edges >= 0).all()
    assert (edges <= 1).all()


@pytest.mark.parametrize("law", ["uniform", "logit_normal"])
def test_a_shift_is_that_of_the_sampler_and_moves_the_logit(law: str) -> None:
    draws = np.linspace(0.01, 0.99, 50)
    plain = noise_levels(draws, recipe(noise_law=law))
    shifted = noise_levels(draws, recipe(noise_law=law, noise_shift=SHIFT))
    np.testing.assert_allclose(shifted, SHIFT * plain / (1 + (SHIFT - 1) * plain), rtol=1e-12)
    logit, moved = (np.log(level / (1 - level)) for level in (plain, shifted))
    np.testing.assert_allclose(moved, logit + math.log(SHIFT), rtol=0, atol=1e-9)
