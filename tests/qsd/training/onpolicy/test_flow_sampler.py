"""The sampler on flow-matching models: diffusers' Euler steps, Flow-GRPO's step by hand, two kinds of guidance."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch

from qsd.data.prompts import Prompt
from qsd.models.denoiser import load_denoiser
from qsd.models.encoders import load_text_encoder
from qsd.models.families import family_named
from qsd.training.onpolicy.sampler import Prompts, Sampler
from tests.qsd import tiny_flow
from tests.qsd.tiny_pipeline import RESOLUTION
from tests.qsd.training.onpolicy.flow_world import NOISE_LEVEL, SAVE, FlowModel, flow_model

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
STEPS = 5
PROMPTS = [Prompt(f"p{number}", caption, "training") for number, caption in enumerate(("a cat", "two dogs", "rain"))]


@pytest.fixture(scope="module", params=SAVE)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FlowModel:
    return flow_model(request.param, tmp_path_factory.mktemp("flow") / "model")


def make(model: FlowModel, eta: float = NOISE_LEVEL, precision: str = "fp32", batch: int = 64) -> Sampler:
    denoiser = load_denoiser(str(model.folder), CPU, precision, RESOLUTION)
    settings = {"sampler_steps": STEPS, "guidance_scale": model.guidance, "eta": eta, "sampling_batch": batch}
    made = Sampler(denoiser, SimpleNamespace(**settings), precision, tiny_flow.LATENT_SHAPE, 3, CPU)
    made.begin_with(load_text_encoder(str(model.folder), CPU), zero_negative=False)
    return made


def drawn(sampler: Sampler, prompts: Prompts) -> torch.Tensor:
    """Latents at the end of a sampling with noise."""
    latents = sampler.start(prompts)
    for step in range(sampler.steps):
        mean, std = sampler.gaussian(sampler.sampled(latents, step, prompts), latents, step)
        latents = mean + std * sampler.noise(prompts, step, 0)
    return latents


def stock(model: FlowModel) -> Any:
    """diffusers' pipeline with its own scheduler."""
    pipeline: Any = getattr(diffusers, model.pipeline).from_pretrained(model.folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_without_noise_it_is_the_euler_sampler_of_diffusers(model: FlowModel) -> None:
    """From the same first noise: the stock pipeline's own loop, with its scheduler, shift and guidance."""
    sampler, pipeline = make(model, eta=0.0), stock(model)
    prompts = sampler.prompts(PROMPTS, [0, 1, 0])
    start = sampler.start(prompts)
    text = load_text_encoder(str(model.folder), CPU)
    empty = {name: rows.repeat(3, *[1] * (rows.dim() - 1)) for name, rows in text.conditioning([""]).items()}
    family = family_named(model.pipeline, "a test")
    with torch.no_grad():
        theirs = family.sample(pipeline, start, prompts.conditioning, empty, STEPS, model.guidance, RESOLUTION)
    assert pipeline.scheduler.__class__ is diffusers.FlowMatchEulerDiscreteScheduler
    images = sampler.images(start, prompts)
    torch.testing.assert_close(images, theirs, rtol=0, atol=2e-5)
    assert not bool(sampler.deviations().any())
    assert torch.equal(drawn(sampler, prompts), images), "whatever noise would have been added"
    assert torch.equal(make(model).images(start, prompts), images), "watched images are drawn without noise"


def test_mean_and_deviation_of_every_step_by_hand(model: FlowModel) -> None:
    """Flow-GRPO's formulas in fp64 at the stock scheduler's σ, and the clean image x - σ v."""
    sampler, scheduler = make(model), stock(model).scheduler
    prompts = sampler.prompts(PROMPTS, [0] * 3)
    if model.pipeline == "FluxPipeline":
        tokens = math.prod(tiny_flow.LATENT_SHAPE[1:]) // 4
        slope = (scheduler.config.max_shift - scheduler.config.base_shift) / (4096 - 256)
        mu = scheduler.config.base_shift + slope * (tokens - 256)
        scheduler.set_timesteps(sigmas=[1 - number / STEPS for number in range(STEPS)], mu=mu)
    else:
        scheduler.set_timesteps(STEPS)
    sigmas = scheduler.sigmas.double().tolist()
    assert (sigmas[0], sigmas[-1], len(sigmas)) == (1.0, 0.0, STEPS + 1)
    latents = sampler.start(prompts)
    for step, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        velocity = sampler.sampled(latents, step, prompts)
        mean, std = sampler.gaussian(velocity, latents, step)
        x, v = latents.double(), velocity.double()
        spread = NOISE_LEVEL * math.sqrt(sigma / (1 - (sigmas[1] if sigma == 1 else sigma)))
        drift = v + spread**2 / (2 * sigma) * (x + (1 - sigma) * v)
        torch.testing.assert_close(mean.double(), x + drift * (following - sigma), rtol=0, atol=5e-6)
        assert std.flatten().tolist() == pytest.approx([spread * math.sqrt(sigma - following)] * 3, rel=1e-5)
        torch.testing.assert_close(sampler.clean(velocity, latents, step).double(), x - sigma * v, rtol=0, atol=5e-6)
        noise = sampler.noise(prompts, step, 0)
        latents = mean + std * noise
        density = -noise.double().square() / 2 - std.double().log() - 0.5 * math.log(2 * math.pi)
        log_prob = sampler.log_prob(latents, mean, std)
        torch.testing.assert_close(log_prob.double(), density.mean(dim=(1, 2, 3)), rtol=0, atol=1e-4)


def test_a_network_in_bf16_has_steps_and_probabilities_in_fp32(model: FlowModel) -> None:
    sampler = make(model, precision="bf16")
    prompts = sampler.prompts(PROMPTS, [0] * 3)
    latents = sampler.start(prompts)
    mean, std = sampler.gaussian(sampler.sampled(latents, 1, prompts), latents, 1)
    outcome = mean + std * sampler.noise(prompts, 1, 0)
    assert {each.dtype for each in (mean, std, outcome, sampler.log_prob(outcome, mean, std))} == {torch.float32}


def test_guidance_is_of_the_kind_that_the_network_takes(model: FlowModel) -> None:
    """SD3: two halves in one pass. FLUX.1-dev: one image, and 3.5 as an input."""
    sampler, seen = make(model), list[Any]()

    def record(_module: Any, _arguments: Any, inputs: dict[str, Any]) -> None:
        seen.append((len(inputs["hidden_states"]), inputs.get("guidance")))

    sampler.denoiser.network.register_forward_pre_hook(record, with_kwargs=True)
    prompts = sampler.prompts(PROMPTS, [0] * 3)
    sampler.sampled(sampler.start(prompts), 0, prompts)
    ((count, guidance),) = seen
    if model.pipeline == "FluxPipeline":
        assert (count, guidance.tolist(), sampler.passes) == (3, [3.5] * 3, 3)
    else:
        assert (count, guidance, sampler.passes) == (6, None, 6)


def test_prompts_are_sampled_in_their_order_in_any_batch(model: FlowModel) -> None:
    sampler, small = make(model), make(model, batch=2)
    images = drawn(sampler, sampler.prompts(PROMPTS, [0, 1, 2]))
    others = drawn(small, small.prompts(PROMPTS[::-1], [2, 1, 0]))
    torch.testing.assert_close(others.flip(0), images, rtol=0, atol=5e-5)
