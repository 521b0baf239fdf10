"""What samples and what scores, from a configuration: for the on-policy methods, and for tests of what they assume."""

from __future__ import annotations

from typing import Any

import torch

from qsd.config.schema import ExperimentConfig
from qsd.models.decoder import load_image_decoder
from qsd.models.denoiser import Denoiser
from qsd.models.encoders import load_text_encoder
from qsd.models.source import load_index
from qsd.training.onpolicy.prompts import CALIBRATION_PROMPTS, PromptStream
from qsd.training.onpolicy.rewards import LatentReward
from qsd.training.onpolicy.sampler import Sampler


def open_sampling(
    config: ExperimentConfig, settings: Any, denoiser: Denoiser, device: torch.device
) -> tuple[Sampler, LatentReward]:
    """The sampler of a network, with text models, and the reward of clean latents.

    Args:
        config: sections model, reward and training, and the seed.
        settings: sampler_steps, guidance_scale, eta, sampling_batch (``qsd.training.methods.Sampling``).
        denoiser: network and process; the network may have an adapter.
        device: where the network is.

    Raises:
        UserError: weights that cannot be read, or a reward that needs a data set of pairs.
    """
    decoder = load_image_decoder(config.model.path, device, config.model.vae_precision)
    shape = denoiser.family.latent_shape(decoder.vae.config, config.model.resolution)
    sampler = Sampler(denoiser, settings, config.training.precision, shape, config.seed, device)
    zeros = denoiser.family.zero_negative_prompt(load_index(config.model.path))
    sampler.begin_with(load_text_encoder(config.model.path, device), zeros)
    return sampler, LatentReward(config.reward, decoder, config.reward.batch_size)


def calibrate(reward: LatentReward, sampler: Sampler, stream: PromptStream) -> None:
    """Put an ensemble's members on one scale, by the images of the stream's first ``CALIBRATION_PROMPTS`` prompts.

    The sampler's network must be the base model, or have its adapter off, so that the trainings of an experiment with
    one seed have the same scale; the images, and of many prompts also which are first, depend on the seed. Nothing is
    computed for a single reward model, or where there is a scale already.
    """
    if reward.is_calibrated:
        return
    prompts, visits = stream.at(0, min(CALIBRATION_PROMPTS, len(stream)))
    batch = sampler.prompts(prompts, visits)
    with torch.no_grad():
        reward.calibrate(sampler.images(sampler.start(batch), batch), batch.captions)
