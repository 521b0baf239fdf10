"""Flow matching: the process of Stable Diffusion 3, FLUX and their kin, in training, in sampling and on-policy."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from qsd.errors import UserError
from qsd.models.process import DiffusionProcess
from qsd.models.source import load_part

_OTHERS = ("stochastic_sampling", "invert_sigmas")
"""Settings of a flow schedule that make it another process."""


class FlowSampler(FlowMatchEulerDiscreteScheduler):
    """diffusers' Euler steps, with latents that stay fp32 whatever type the network computes in."""

    def step(self, model_output: Any, *args: Any, **options: Any) -> Any:
        """As in the class above, which rounds the latents to the type of the network's output."""
        return super().step(model_output.float(), *args, **options)


@dataclass(frozen=True)
class FlowProcess(DiffusionProcess):
    """A straight path from an image to noise (Liu et al. 2022, arXiv 2209.03003; Esser et al. 2024, arXiv 2403.03206).

        z_σ = (1 - σ) z_0 + σ ε        v = ε - z_0        σ in [0, 1], fp32

    The network predicts v. Times are σ itself; a network that wants another unit gets it from its family's ``predict``.
    The law of σ in training is the configuration's (``training.noise_law``, ``training.noise_shift``).

    Attributes:
        schedule: diffusers' sampler with the settings of the model's folder: its shift, or how the shift grows with the
            image.
        mu: logarithm of the shift where the model's grows with the image; None where it is fixed.
        even: the sampler starts from σ evenly spaced from 1 to 1 / steps, as FLUX's pipeline asks for; by default from
            the schedule's own.
    """

    schedule: FlowMatchEulerDiscreteScheduler
    mu: float | None = None
    even: bool = False

    def times(self, uniform: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """σ [B] fp32, equal to the draws."""
        return uniform.astype(np.float32)

    def sampling_times(self, steps: int) -> list[tuple[float, float]]:
        """The σ of diffusers' sampler, each with the next; the last step ends at 0."""
        assert self.mu is not None or not cast("Any", self.schedule.config)["use_dynamic_shifting"], "load for a size"
        sampler = cast("Any", FlowMatchEulerDiscreteScheduler.from_config(self.schedule.config))
        sigmas = np.linspace(1.0, 1 / steps, steps) if self.even else None
        sampler.set_timesteps(steps, sigmas=sigmas, mu=self.mu)
        return list(pairwise(sampler.sigmas.tolist()))

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """z_σ = (1 - σ) z_0 + σ ε, [B, C, h, w]."""
        sigma = _broadcast(times)
        return (1 - sigma) * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """v = ε - z_0, [B, C, h, w]."""
        return noise - latents

    def x0(self, noisy: Tensor, prediction: Tensor, times: Tensor) -> Tensor:
        """ẑ_0 = z_σ - σ v, [B, C, h, w]."""
        return noisy - _broadcast(times) * prediction

    def step(
        self, prediction: Tensor, noisy: Tensor, time: Tensor, next_time: Tensor, eta: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        """The step of Flow-GRPO (Liu et al. 2025, arXiv 2505.05470) from σ to σ' < σ, all in fp32.

            s² = η² σ / (1 - σ)        dt = σ' - σ < 0
            μ = z (1 + s² / (2 σ) dt) + v (1 + s² (1 - σ) / (2 σ)) dt        deviation = s √(-dt)

        η is their a (0.7); 0 is the Euler step of the pipeline. At σ = 1 the deviation would be infinite: there the
        1 - σ under the root is that of σ', the second of the sampler's σ, as in their code. Their last step brings
        noise too, of a deviation of about η σ, where σ is the smallest of the sampler.
        """
        prediction, noisy = prediction.float(), noisy.float()
        sigma, next_sigma = _broadcast(time.float()), _broadcast(next_time.float())
        dt = next_sigma - sigma
        # s² / (2 σ), which has no division by σ.
        half = eta**2 / (2 * (1 - torch.where(sigma < 1, sigma, next_sigma)))
        mean = noisy * (1 + half * dt) + prediction * (1 + half * (1 - sigma)) * dt
        return mean, (2 * half * sigma * -dt) ** 0.5


def load_flow_schedule(path: str, timesteps: int, may_grow: bool = False) -> FlowSampler:
    """The sampler with the settings of a model's folder ``scheduler``.

    Args:
        path: folder, or hub name with @revision.
        timesteps: what the schedule must count σ = 1 as, since the family gives the network times in this unit.
        may_grow: whether the shift may grow with the image (``use_dynamic_shifting``).

    Raises:
        UserError: nothing to load there, a schedule of another kind of process, or a setting that makes it one.
    """
    config: dict[str, Any] = dict(load_part(FlowSampler.load_config, path, subfolder="scheduler"))
    name = str(config.get("_class_name"))
    if not name.startswith("FlowMatch"):
        raise UserError(f"model.path {path}: its schedule {name} is not of a flow-matching model; not supported")
    for setting in (*_OTHERS, *(() if may_grow else ("use_dynamic_shifting",))):
        if config.get(setting):
            raise UserError(f"model.path {path}: its schedule has {setting}: {config[setting]}; not supported")
    if config.get("num_train_timesteps") != timesteps:
        raise UserError(
            f"model.path {path}: its schedule has {config.get('num_train_timesteps')} timesteps, and its network takes "
            f"times of 0 to {timesteps}; not supported"
        )
    return cast("FlowSampler", load_part(FlowSampler.from_pretrained, path, subfolder="scheduler"))


def _broadcast(times: Tensor) -> Tensor:
    """Times [B] as [B, 1, 1, 1]."""
    return times[:, None, None, None]
