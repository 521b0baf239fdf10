"""Diffusion processes: how a clean latent becomes noise, what a network predicts of it, and how sampling goes back.

A training draws a time, mixes a latent with noise, and compares the network's prediction with a target. A sampler goes
from one time to an earlier one by a Gaussian step, whose mean follows from the prediction. Both need nothing of a
network but its output, so a process knows no network and a network knows no process: a model family joins the two.

Latents are [B, C, h, w] throughout, scaled as the network sees them (``Family.latent_scale``), and fp32. Times are [B],
in the process's own unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import IntTensor, Tensor

from qsd.errors import UserError


class DiffusionProcess(Protocol):
    """What training and sampling ask of a process; a class that derives from it inherits ``log_prob``."""

    def times(self, uniform: npt.NDArray[np.float64]) -> npt.NDArray[np.generic]:
        """The times of a training batch.

        Args:
            uniform: [B] in [0, 1], one number per pair: the share of the way from the clean image to pure noise, drawn
                by the law that the configuration names (``qsd.training.offpolicy.noise_levels``). As times are a
                function of these numbers alone, equal draws give equal times in every cell of a sweep.

        Returns:
            [B] of the type that the network is called with, such as int64 or float32.
        """
        ...

    def sampling_times(self, steps: int) -> list[tuple[float, float]]:
        """(where it begins, where it ends) of every step of the sampler, from noise to the clean image.

        Args:
            steps: how many, at least 1.

        Raises:
            UserError: more steps than the process has times.
        """
        ...

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """The noisy latents z_t at times [B]; all tensors but the times are [B, C, h, w]."""
        ...

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What the network should predict, [B, C, h, w], for the noisy latents that ``add_noise`` makes."""
        ...

    def x0(self, noisy: Tensor, prediction: Tensor, times: Tensor) -> Tensor:
        """The clean latents that a prediction stands for, [B, C, h, w].

        It inverts ``add_noise``: with ``prediction = target(latents, noise, times)`` this is ``latents`` up to
        rounding, wherever the noisy latents still hold some of them.
        """
        ...

    def step(
        self, prediction: Tensor, noisy: Tensor, time: Tensor, next_time: Tensor, eta: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step of the sampler, from ``time`` to the earlier ``next_time``, as a Gaussian.

        Args:
            prediction: the network's output at ``time``, [B, C, h, w].
            noisy: the latents at ``time``, [B, C, h, w].
            time: where the step begins, [B].
            next_time: where it ends, [B]; each process says how the end of the sampling is written.
            eta: how much new noise the step brings, one number or [B, 1, 1, 1]: 0 is deterministic.

        Returns:
            (mean [B, C, h, w], standard deviation [B, 1, 1, 1]). The latents at ``next_time`` are
            ``mean + std * noise``; the deviation is 0 where the step is deterministic.
        """
        ...

    def log_prob(self, sample: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Logarithm of the density of a step's outcome, the *mean* over the elements of the latents.

        log N(x; μ, σ²) = -(x - μ)² / (2 σ²) - log σ - ½ log 2π, per element. The mean, not the sum, over elements
        keeps the ratio of two policies of order one whatever the resolution (kvablack/ddpo-pytorch).

        A deterministic step has no density. Where σ is 0 the result is 0, with zero gradients and no NaN: such a step
        has nothing to choose, so that it leaves the ratio of two policies at 1.

        Args:
            sample: the latents at the end of the step, [B, C, h, w].
            mean: of ``step``, [B, C, h, w].
            std: of ``step``, [B, 1, 1, 1], ≥ 0.

        Returns:
            [B], fp32 whatever the type of the arguments.
        """
        sample, mean, std = sample.float(), mean.float(), std.float()
        random = std > 0
        # The deviation is replaced before it divides: a NaN in the branch not taken would still reach the gradient.
        divisor = torch.where(random, std, torch.ones_like(std))
        density = -((sample - mean) ** 2) / (2 * divisor**2) - torch.log(divisor) - 0.5 * math.log(2 * math.pi)
        return torch.where(random, density, torch.zeros_like(density)).flatten(1).mean(dim=1)


@dataclass(frozen=True)
class DdpmProcess(DiffusionProcess):
    """The discrete process of DDPM (Ho et al. 2020, arXiv 2006.11239), sampled as DDIM (arXiv 2010.02502).

        z_t = √ᾱ_t z_0 + √(1 - ᾱ_t) ε        t = 0 … T - 1, int64, uniform in training

    The network predicts ε (``epsilon``), or v = √ᾱ_t ε - √(1 - ᾱ_t) z_0 (``v_prediction``).

    Attributes:
        schedule: diffusers' own schedule, for ᾱ_t, for T (usually 1000) and for the kind of prediction.
        final_alpha: ᾱ behind the last step of the sampling: 1, where it ends at clean latents, or ᾱ_0
            (``set_alpha_to_one: false`` in the model's folder).
    """

    schedule: DDPMScheduler
    final_alpha: float = 1.0

    @property
    def count(self) -> int:
        """Number of training timesteps T."""
        return int(self._config["num_train_timesteps"])

    @property
    def prediction_type(self) -> str:
        """``epsilon`` or ``v_prediction``."""
        return str(self._config["prediction_type"])

    def times(self, uniform: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Timesteps [B] int64, uniform over 0 … T - 1."""
        # The product can round up to T for a draw next to 1.
        return np.minimum((uniform * self.count).astype(np.int64), self.count - 1)

    def sampling_times(self, steps: int) -> list[tuple[float, float]]:
        """The timesteps that diffusers' DDIM takes under the model's own spacing, each with the one T / steps before.

        The last step ends at a negative timestep, which stands for the end of the sampling.
        """
        if steps > self.count:
            raise UserError(f"{steps} sampler steps are more than the {self.count} timesteps of the model; use fewer")
        sampler = cast("Any", DDIMScheduler.from_config(self.schedule.config, clip_sample=False))
        sampler.set_timesteps(steps)
        return [(float(time), float(time - self.count // steps)) for time in sampler.timesteps.tolist()]

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """z_t = √ᾱ_t z_0 + √(1 - ᾱ_t) ε, [B, C, h, w]."""
        return self.schedule.add_noise(latents, noise, cast("IntTensor", times))

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """ε, or v = √ᾱ_t ε - √(1 - ᾱ_t) z_0; [B, C, h, w]."""
        if self.prediction_type == "v_prediction":
            return self.schedule.get_velocity(latents, noise, cast("IntTensor", times))
        return noise

    def x0(self, noisy: Tensor, prediction: Tensor, times: Tensor) -> Tensor:
        """ẑ_0 = (z_t - √(1 - ᾱ_t) ε) / √ᾱ_t, or √ᾱ_t z_t - √(1 - ᾱ_t) v; [B, C, h, w], never clipped."""
        return self._x0_and_noise(noisy, prediction, self._alpha(times, noisy))[0]

    def step(
        self, prediction: Tensor, noisy: Tensor, time: Tensor, next_time: Tensor, eta: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        """DDIM's step to s = ``next_time``; a negative s is the end of the sampling, where ᾱ is ``final_alpha``.

            σ = η √((1 - ᾱ_s) / (1 - ᾱ_t)) √(1 - ᾱ_t / ᾱ_s)
            μ = √ᾱ_s ẑ_0 + √(1 - ᾱ_s - σ²) ε̂

        η = 0 is DDIM, and η = 1 has the variance of DDPM's posterior.
        """
        alpha, next_alpha = self._alpha(time, noisy), self._alpha(next_time, noisy)
        clean, noise = self._x0_and_noise(noisy, prediction, alpha)
        variance = (1 - next_alpha) / (1 - alpha) * (1 - alpha / next_alpha)
        std = eta * variance**0.5
        # Next to pure noise the difference below is 0 up to rounding, and must not become the root of -1e-8.
        direction = (1 - next_alpha - std**2).clamp(min=0) ** 0.5
        return next_alpha**0.5 * clean + direction * noise, std

    @property
    def _config(self) -> dict[str, Any]:
        return dict(self.schedule.config)

    def _alpha(self, times: Tensor, like: Tensor) -> Tensor:
        """ᾱ at times [B], [B, 1, 1, 1] in the type and on the device of the latents."""
        # Kept on the device, as diffusers' own schedule does: a copy in every step would make the device wait.
        self.schedule.alphas_cumprod = self.schedule.alphas_cumprod.to(like.device)
        alphas, times = self.schedule.alphas_cumprod.to(like.dtype), times.to(like.device)
        # A negative index would silently read from the end of the table.
        inside = alphas[times.clamp(min=0)]
        alpha = torch.where(times >= 0, inside, torch.full_like(inside, self.final_alpha))
        return alpha[:, None, None, None]

    def _x0_and_noise(self, noisy: Tensor, prediction: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """The clean latents and the noise that a prediction stands for."""
        if self.prediction_type == "v_prediction":
            clean = alpha**0.5 * noisy - (1 - alpha) ** 0.5 * prediction
            return clean, alpha**0.5 * prediction + (1 - alpha) ** 0.5 * noisy
        return (noisy - (1 - alpha) ** 0.5 * prediction) / alpha**0.5, prediction
