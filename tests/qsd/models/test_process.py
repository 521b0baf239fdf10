"""The diffusion process: noising and its inverse, the sampler's step against diffusers', and log-probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qsd.draws import pair_draws
from qsd.models.families.stable_diffusion import FAMILY
from qsd.models.process import DdpmProcess
from tests.qsd import tiny_pipeline

KINDS = ("epsilon", "v_prediction")


def process(kind: str, final_alpha: float = 1.0) -> DdpmProcess:
    """1000 timesteps with the schedule of the published models."""
    return DdpmProcess(DDPMScheduler(**tiny_pipeline.NOISE, prediction_type=kind), final_alpha)


def normal(seed: int, count: int = 2) -> list[Tensor]:
    """Some tensors [3, 4, 8, 8] of standard normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 4, 8, 8, generator=generator) for _ in range(count)]


@settings(max_examples=60)
@given(
    kind=st.sampled_from(KINDS), seed=st.integers(0, 10**6), times=st.lists(st.integers(0, 999), min_size=3, max_size=3)
)
def test_x0_inverts_the_noising(kind: str, seed: int, times: list[int]) -> None:
    """Up to rounding, which epsilon's division by √ᾱ multiplies by as much as 15."""
    made, when = process(kind), torch.tensor(times)
    latents, noise = normal(seed)
    noisy, target = made.add_noise(latents, noise, when), made.target(latents, noise, when)
    torch.testing.assert_close(made.x0(noisy, target, when), latents, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_is_what_the_paper_says(kind: str) -> None:
    made, when = process(kind), torch.tensor([0, 500, 999])
    latents, noise = normal(0)
    alpha = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)[when][:, None, None, None]
    torch.testing.assert_close(made.add_noise(latents, noise, when), alpha**0.5 * latents + (1 - alpha) ** 0.5 * noise)
    expected = noise if kind == "epsilon" else alpha**0.5 * noise - (1 - alpha) ** 0.5 * latents
    torch.testing.assert_close(made.target(latents, noise, when), expected)


@pytest.mark.parametrize("ends_clean", [True, False])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_that_of_diffusers(kind: str, eta: float, ends_clean: bool) -> None:
    """From every timestep of a sampling in ten steps, the last one included."""
    theirs = DDIMScheduler(
        **tiny_pipeline.NOISE, prediction_type=kind, clip_sample=False, set_alpha_to_one=ends_clean, steps_offset=1
    )
    theirs.set_timesteps(10)
    made = process(kind, float(theirs.final_alpha_cumprod))
    for number, time in enumerate(theirs.timesteps):
        prediction, noisy, noise = normal(number, 3)
        next_time = time - 100
        mean, std = made.step(prediction, noisy, time.expand(3), next_time.expand(3), eta)
        expected = theirs.step(prediction, int(time), noisy, eta=eta, variance_noise=noise).prev_sample
        assert mean.shape == noisy.shape
        assert std.shape == (3, 1, 1, 1)
        torch.testing.assert_close(mean + std * noise, expected, rtol=0, atol=1e-6)
        assert bool((std > 0).all()) is (eta > 0 and (int(next_time) >= 0 or not ends_clean))


def test_a_step_treats_each_image_at_its_own_time() -> None:
    made = process("epsilon")
    prediction, noisy = normal(1)
    time, next_time = torch.tensor([900, 500, 50]), torch.tensor([800, 450, -1])
    mean, std = made.step(prediction, noisy, time, next_time, 1.0)
    for row in range(3):
        one = slice(row, row + 1)
        alone = made.step(prediction[one], noisy[one], time[one], next_time[one], 1.0)
        torch.testing.assert_close(mean[one], alone[0])
        torch.testing.assert_close(std[one], alone[1])


def test_a_schedule_that_ends_in_pure_noise_makes_no_nan() -> None:
    """With ᾱ of 0 at the last timestep, what remains for the direction of the noise is 0 up to rounding."""
    schedule = DDPMScheduler(**tiny_pipeline.NOISE, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    prediction, noisy = normal(2)
    for eta in (0.0, 1.0):
        time, next_time = torch.tensor([999, 998, 997]), torch.tensor([899, 898, 897])
        mean, std = DdpmProcess(schedule).step(prediction, noisy, time, next_time, eta)
        assert bool(mean.isfinite().all() and std.isfinite().all())


def test_times_are_those_of_the_draws() -> None:
    """Bit for bit the rule by which all trainings so far drew theirs."""
    draws = pair_draws([f"pair {n}" for n in range(500)], [0] * 500, 3, (1, 1, 1))
    times = process("epsilon").times(draws.timestep_uniform)
    assert times.dtype == np.int64
    np.testing.assert_array_equal(times, draws.timesteps(1000))


def test_times_cover_all_timesteps_and_no_more() -> None:
    edges = np.array([0.0, 0.000999, 0.001, 0.5, np.nextafter(1.0, 0.0)])
    assert process("epsilon").times(edges).tolist() == [0, 0, 1, 500, 999]


@pytest.mark.parametrize(("kind", "alpha"), [("epsilon", False), ("v_prediction", True)])
def test_the_family_reads_the_process_of_a_folder(tmp_path: object, kind: str, alpha: bool) -> None:
    schedule = DDIMScheduler(**tiny_pipeline.NOISE, prediction_type=kind, set_alpha_to_one=alpha)
    pipeline = tiny_pipeline.pipeline(kind)
    pipeline.scheduler = schedule
    pipeline.save_pretrained(str(tmp_path))
    made = FAMILY.load_process(str(tmp_path))
    assert isinstance(made, DdpmProcess)
    assert (made.count, made.prediction_type) == (1000, kind)
    assert made.final_alpha == (1.0 if alpha else float(schedule.alphas_cumprod[0]))


@pytest.mark.parametrize("steps", [2, 7, 20, 400, 501, 625, 700, 1000])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("clean", [True, False])
def test_planning_knows_whether_the_last_step_brings_noise(clean: bool, spacing: str, offset: int, steps: int) -> None:
    """From the settings alone, as from the deviation of the process with these settings."""
    settings_of_model = {"set_alpha_to_one": clean, "timestep_spacing": spacing, "steps_offset": offset}
    schedule = DDPMScheduler.from_config({**tiny_pipeline.NOISE, **settings_of_model})
    made = DdpmProcess(schedule, 1.0 if clean else float(schedule.alphas_cumprod[0]))
    time, next_time = (torch.tensor([value], dtype=torch.int64) for value in made.sampling_times(steps)[-1])
    _, std = made.step(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), time, next_time, 1.0)
    config = {**settings_of_model, "num_train_timesteps": 1000}
    assert FAMILY.last_step_brings_noise(config, steps) is bool(std.item() > 0)


# ── Log-probabilities ────────────────────────────────────────────────────────────────────────────────────────────────


def test_log_prob_by_hand() -> None:
    """Of two images with four numbers each, at distances 0, 1, 2 and 3 of one deviation, which is 1 and then 2."""
    sample = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 2.0, 4.0, 6.0]]).reshape(2, 1, 2, 2)
    std = torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1)
    log_prob = process("epsilon").log_prob(sample, torch.zeros_like(sample), std)
    base = -(0 + 1 + 4 + 9) / 8 - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(log_prob, torch.tensor([base, base - math.log(2)]))


@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 10))
def test_log_prob_is_the_mean_of_torchs_density(seed: int, scale: float) -> None:
    sample, mean = normal(seed)
    std = torch.full((3, 1, 1, 1), scale)
    expected = torch.distributions.Normal(mean, std).log_prob(sample).mean(dim=(1, 2, 3))
    torch.testing.assert_close(process("epsilon").log_prob(sample, mean, std), expected, rtol=1e-5, atol=1e-5)


def test_log_prob_computes_in_fp32() -> None:
    sample, mean = (tensor.bfloat16() for tensor in normal(0))
    std = torch.full((3, 1, 1, 1), 0.3, dtype=torch.bfloat16)
    log_prob = process("epsilon").log_prob(sample, mean, std)
    assert log_prob.dtype == torch.float32
    exact = process("epsilon").log_prob(sample.double(), mean.double(), std.double())
    torch.testing.assert_close(log_prob, exact, rtol=0, atol=0)


def test_a_deterministic_step_has_log_prob_0_and_no_gradient() -> None:
    """Also beside a random step in the same batch, whose value and gradient are its own."""
    sample, mean = normal(5)
    mean.requires_grad_()
    std = torch.tensor([0.0, 0.5, 0.0]).reshape(3, 1, 1, 1).requires_grad_()
    log_prob = process("epsilon").log_prob(sample, mean, std)
    assert log_prob[[0, 2]].tolist() == [0.0, 0.0]
    expected = torch.distributions.Normal(mean[1], 0.5).log_prob(sample[1]).mean()
    torch.testing.assert_close(log_prob[1], expected)
    gradients = torch.autograd.grad(log_prob.sum(), [mean, std])
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert all(gradient[[0, 2]].abs().max() == 0 for gradient in gradients)
    assert gradients[0][1].abs().max() > 0
