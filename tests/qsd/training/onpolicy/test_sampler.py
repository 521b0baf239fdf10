"""The sampler with transitions: its images against diffusers' own DDIM, its draws, its guidance, its probabilities."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from qsd.data.prompts import Prompt
from qsd.draws import BEGIN, step_noise
from qsd.errors import UserError
from qsd.models.denoiser import load_denoiser
from qsd.models.encoders import load_text_encoder
from qsd.models.families.stable_diffusion import FAMILY
from qsd.training.onpolicy.placement import check_noise, trained_steps
from qsd.training.onpolicy.sampler import Prompts, Sampler
from tests.qsd import tiny_pipeline

CPU = torch.device("cpu")
PROMPTS = [Prompt(f"p{number}", caption, "training") for number, caption in enumerate(("a cat", "two dogs", "rain"))]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline.save(tmp_path_factory.mktemp("model") / "model")


def make(model: Path, seed: int = 3, **settings: Any) -> Sampler:
    usual = {"sampler_steps": 5, "guidance_scale": 1.0, "eta": 1.0, "sampling_batch": 64}
    made = Sampler(
        load_denoiser(str(model), CPU),
        SimpleNamespace(**{**usual, **settings}),
        "fp32",
        tiny_pipeline.LATENT_SHAPE,
        seed,
        CPU,
    )
    made.begin_with(load_text_encoder(str(model), CPU), zero_negative=False)
    return made


def drawn(sampler: Sampler, prompts: Prompts) -> torch.Tensor:
    """Latents at the end of a sampling with noise."""
    latents = sampler.start(prompts)
    for step in range(sampler.steps):
        mean, std = sampler.gaussian(sampler.sampled(latents, step, prompts), latents, step)
        latents = mean + std * sampler.noise(prompts, step, 0)
    return latents


@pytest.mark.slow
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("guidance", [1.0, 5.0])
@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_images_are_those_of_diffusers_ddim(tmp_path: Path, eta: float, guidance: float, spacing: str) -> None:
    """With the same noise: the stock network, the stock scheduler and the usual formula of guidance."""
    stock = tiny_pipeline.pipeline()
    stock.scheduler = DDIMScheduler.from_config(stock.scheduler.config, timestep_spacing=spacing)
    stock.save_pretrained(tmp_path)
    sampler = make(tmp_path, eta=eta, guidance_scale=guidance)
    prompts = sampler.prompts(PROMPTS, [0, 1, 0])
    samples = drawn(sampler, prompts)

    pipeline: Any = StableDiffusionPipeline.from_pretrained(tmp_path, safety_checker=None)
    scheduler, latents = pipeline.scheduler, sampler.start(prompts)
    scheduler.set_timesteps(5)
    positive, negative = pipeline.encode_prompt(prompts.captions, CPU, 1, True)
    with torch.no_grad():
        for step, time in enumerate(scheduler.timesteps):
            with_text = pipeline.unet(latents, time, encoder_hidden_states=positive).sample
            without = pipeline.unet(latents, time, encoder_hidden_states=negative).sample
            output = without + guidance * (with_text - without) if guidance > 1 else with_text
            noise = sampler.noise(prompts, step, 0)
            latents = scheduler.step(output, time, latents, eta=eta, variance_noise=noise).prev_sample
    torch.testing.assert_close(samples, latents, rtol=1e-4, atol=1e-4)


def test_the_deterministic_sampler_is_the_one_of_the_evaluation(model: Path) -> None:
    """``images`` against the stock pipeline's own loop, which stage generate uses."""
    sampler = make(model, guidance_scale=3.0)
    prompts = sampler.prompts(PROMPTS, [0] * 3)
    start = sampler.start(prompts)
    stock: Any = tiny_pipeline.pipeline()
    stock.set_progress_bar_config(disable=True)
    text = load_text_encoder(str(model), CPU)
    empty = {name: rows.repeat(3, 1, 1) for name, rows in text.conditioning([""]).items()}
    expected = FAMILY.sample(stock, start, prompts.conditioning, empty, 5, 3.0, tiny_pipeline.RESOLUTION)
    torch.testing.assert_close(sampler.images(start, prompts), expected, rtol=0, atol=2e-5)


def test_draws_depend_on_prompt_visit_step_candidate_and_seed_alone(model: Path) -> None:
    sampler = make(model)
    together = sampler.prompts(PROMPTS, [0, 4, 0])
    alone = sampler.prompts(PROMPTS[1:2], [4])
    assert torch.equal(sampler.noise(together, 2, 1)[1:2], sampler.noise(alone, 2, 1))
    draws = [
        step_noise([name], [visit], step, candidate, seed, (4, 8, 8)).tobytes()
        for name in ("p0", "p1")
        for visit in (0, 1)
        for step in (BEGIN, 0, 1)
        for candidate in (0, 1)
        for seed in (0, 1)
    ]
    assert len(set(draws)) == 48


@pytest.mark.slow
def test_a_prompt_is_sampled_alike_in_any_batch(model: Path) -> None:
    sampler, small = make(model), make(model, sampling_batch=1)
    together = drawn(sampler, sampler.prompts(PROMPTS, [0, 1, 2]))
    for row, prompt in enumerate(PROMPTS):
        alone = drawn(small, small.prompts([prompt], [row]))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=2e-5)


def test_guidance_halves_are_one_pass(model: Path) -> None:
    """Counted at the network itself; and passes are counted as images."""
    sampler = make(model, guidance_scale=2.0)
    prompts, calls = sampler.prompts(PROMPTS, [0] * 3), list[int]()
    sampler.denoiser.network.register_forward_pre_hook(lambda _module, arguments: calls.append(len(arguments[0])))
    sampler.sampled(sampler.start(prompts), 0, prompts)
    assert calls == [6]
    assert (sampler.passes, sampler.trained_passes) == (6, 0)


def test_log_probabilities_are_highest_at_the_mean(model: Path) -> None:
    sampler = make(model)
    prompts = sampler.prompts(PROMPTS, [0] * 3)
    latents = sampler.start(prompts)
    mean, std = sampler.gaussian(sampler.sampled(latents, 1, prompts), latents, 1)
    outcome = mean + std * sampler.noise(prompts, 1, 0)
    assert bool((sampler.log_prob(mean, mean, std) > sampler.log_prob(outcome, mean, std)).all())
    squares = ((outcome - mean) / std).square().mean(dim=(1, 2, 3))
    difference = sampler.log_prob(mean, mean, std) - sampler.log_prob(outcome, mean, std)
    torch.testing.assert_close(difference, squares / 2, rtol=1e-4, atol=1e-5)


def test_the_clean_image_of_the_last_step_is_where_it_ends(tmp_path: Path) -> None:
    """With a last step to clean latents (σ = 0) its mean is the x̂_0 of Eq. 12, and its log-probability is 0."""
    stock = tiny_pipeline.pipeline()
    stock.scheduler = DDIMScheduler.from_config(stock.scheduler.config, set_alpha_to_one=True)
    stock.save_pretrained(tmp_path)
    sampler = make(tmp_path)
    prompts = sampler.prompts(PROMPTS, [0] * 3)
    latents = sampler.start(prompts)
    prediction = sampler.sampled(latents, 4, prompts)
    mean, std = sampler.gaussian(prediction, latents, 4)
    assert not bool(std.any())
    torch.testing.assert_close(mean, sampler.clean(prediction, latents, 4), rtol=0, atol=1e-5)
    assert not bool(sampler.log_prob(mean, mean, std).any())


def test_more_steps_than_timesteps_are_refused(model: Path) -> None:
    with pytest.raises(UserError, match="1001 sampler steps are more than the 1000 timesteps"):
        make(model, sampler_steps=1001)


def test_where_trained_steps_are() -> None:
    assert trained_steps(20, 5, 0, "uniform") == [2, 6, 10, 14, 18]
    assert trained_steps(20, 5, 4, "uniform") == [5, 8, 12, 15, 18]
    assert trained_steps(20, 0, 4, "uniform") == list(range(4, 20))
    assert trained_steps(20, 3, 2, "first") == [2, 3, 4]
    assert trained_steps(20, 3, 2, "last") == [17, 18, 19]
    with pytest.raises(UserError, match=r"method.trained_steps is 17, but 20 sampler steps without the first 4"):
        trained_steps(20, 17, 4, "uniform")


def test_trained_steps_without_noise() -> None:
    deviations = [0.9, 0.5, 0.0]
    assert check_noise([0, 1], deviations) == []
    assert check_noise([1, 2], deviations) == [2]
    with pytest.raises(UserError, match=r"choose step 2 of 0 to 2, which brings no noise"):
        check_noise([2], deviations)


def test_deviations_are_those_of_the_steps(model: Path) -> None:
    sampler = make(model)
    prompts = sampler.prompts(PROMPTS, [0] * 3)
    latents = sampler.start(prompts)
    for step, deviation in enumerate(sampler.deviations()):
        _, std = sampler.gaussian(torch.zeros_like(latents), latents, step)
        torch.testing.assert_close(std.flatten(), deviation.expand(3))
    assert sampler.passes == 0
