"""A sampler whose steps are Gaussians: what it draws, from where, and how probable that was.

    x_next = μ + σ ε        (μ, σ) = process.step(prediction at x)

Classifier-free guidance is part of the policy: prediction = negative + scale · (positive - negative), both halves in
one batch, in sampling and in training alike. Latents and everything computed from them are fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qsd.data.prompts import Prompt
from qsd.draws import BEGIN, step_noise
from qsd.models.denoiser import Denoiser
from qsd.models.encoders import TextEncoder
from qsd.models.families import Conditioning
from qsd.models.precision import autocast_for


@dataclass(frozen=True)
class Prompts:
    """P prompts that are sampled together.

    Attributes:
        prompts: with their captions.
        visits: how often training has sampled each before.
        conditioning: of the captions, [P, ...] by field.
    """

    prompts: Sequence[Prompt]
    visits: Sequence[int]
    conditioning: Conditioning

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def captions(self) -> list[str]:
        """The captions, [P]."""
        return [prompt.caption for prompt in self.prompts]

    def rows(self, places: Tensor) -> Conditioning:
        """The conditioning of some of them, [B, ...] by field; ``places`` [B] int64."""
        return {field: values[places] for field, values in self.conditioning.items()}


class Sampler:
    """Steps of DDIM, or of another process, with their mean and standard deviation.

    Args:
        denoiser: network and process; the network may have an adapter.
        settings: sampler_steps, guidance_scale, eta, sampling_batch (``qsd.training.methods.Sampling``).
        precision: of the network's forward pass, ``fp32`` or ``bf16``.
        shape: (C, h, w) of the latents.
        seed: of the noise.
        device: where the network is.

    Attributes:
        passes: images that went through the network without gradients, guidance halves counted each.
        trained_passes: with gradients.
    """

    def __init__(
        self, denoiser: Denoiser, settings: Any, precision: str, shape: Sequence[int], seed: int, device: torch.device
    ) -> None:
        self.denoiser = denoiser
        self.shape = tuple(shape)
        self.device = device
        self.passes = 0
        self.trained_passes = 0
        self._scale = float(settings.guidance_scale)
        self._eta = float(settings.eta)
        self._batch = int(settings.sampling_batch)
        self._precision = precision
        self._seed = seed
        kind = torch.from_numpy(np.asarray(denoiser.process.times(np.zeros(1)))).dtype
        times = torch.tensor(denoiser.process.sampling_times(settings.sampler_steps), dtype=torch.float64)
        self._begins, self._ends = times.to(device, kind).unbind(dim=1)
        self._negative: Conditioning | None = None
        self._text: TextEncoder | None = None

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self._begins)

    @property
    def guided(self) -> bool:
        """Whether guidance doubles every pass."""
        return self._scale > 1

    def begin_with(self, text: TextEncoder, zero_negative: bool) -> None:
        """The text models that make conditioning; ``zero_negative``: guidance leads away from zeros."""
        self._text = text
        if self.guided:
            empty = text.conditioning([""])
            self._negative = {name: torch.zeros_like(row) if zero_negative else row for name, row in empty.items()}

    def prompts(self, prompts: Sequence[Prompt], visits: Sequence[int]) -> Prompts:
        """Prompts with the conditioning of their captions."""
        assert self._text is not None
        return Prompts(prompts, visits, self._text.conditioning([prompt.caption for prompt in prompts]))

    # ── Noise ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, prompts: Prompts, candidate: int = 0) -> Tensor:
        """Where sampling begins: [P, C, h, w] standard normal."""
        return self.noise(prompts, BEGIN, candidate)

    def noise(self, prompts: Prompts, step: int, candidate: int) -> Tensor:
        """The new noise of a step, [P, C, h, w]: a function of (prompt id, visit, step, candidate, seed) alone."""
        ids = [prompt.prompt_id for prompt in prompts.prompts]
        return torch.from_numpy(step_noise(ids, prompts.visits, step, candidate, self._seed, self.shape)).to(
            self.device
        )

    # ── The network ──────────────────────────────────────────────────────────────────────────────────────────────────

    def predict(self, latents: Tensor, index: Tensor, conditioning: Conditioning) -> Tensor:
        """The guided prediction at the beginning of steps ``index`` [B], [B, C, h, w] fp32, in one pass.

        Args:
            latents: [B, C, h, w].
            index: steps, [B] int64.
            conditioning: [B, ...] by field.
        """
        count = len(latents) * (2 if self.guided else 1)
        if torch.is_grad_enabled():
            self.trained_passes += count
        else:
            self.passes += count
        times = self._begins[index]
        with autocast_for(self.device.type, self._precision):
            if not self.guided:
                return self.denoiser.predict(latents, times, conditioning).float()
            assert self._negative is not None
            both = {
                name: torch.cat([self._negative[name].expand(len(latents), *rows.shape[1:]), rows])
                for name, rows in conditioning.items()
            }
            output = self.denoiser.predict(torch.cat([latents, latents]), torch.cat([times, times]), both)
        negative, positive = output.float().chunk(2)
        return negative + self._scale * (positive - negative)

    def sampled(self, latents: Tensor, step: int, prompts: Prompts, places: Tensor | None = None) -> Tensor:
        """The prediction at the beginning of one step, without gradients, in passes of ``sampling_batch`` images.

        Args:
            latents: [B, C, h, w].
            step: of the sampler.
            prompts: P of them.
            places: which prompt each row belongs to, [B]; by default rows repeat the P prompts in order.
        """
        rows = torch.arange(len(latents), device=self.device) % len(prompts) if places is None else places
        most = max(1, self._batch // 2) if self.guided else self._batch
        with torch.no_grad():
            return torch.cat(
                [
                    self.predict(latents[first : first + most], torch.full_like(part, step), prompts.rows(part))
                    for first, part in zip(range(0, len(latents), most), torch.split(rows, most), strict=True)
                ]
            )

    # ── The step ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def gaussian(self, prediction: Tensor, latents: Tensor, index: Tensor | int) -> tuple[Tensor, Tensor]:
        """Mean [B, C, h, w] and standard deviation [B, 1, 1, 1] of what steps ``index`` lead to."""
        steps = self._indices(index, len(latents))
        return self.denoiser.process.step(prediction, latents, self._begins[steps], self._ends[steps], self._eta)

    def deviations(self) -> Tensor:
        """Standard deviation of every step, [steps]; 0 where a step brings no noise. No network is asked for it."""
        nothing = torch.zeros(self.steps, 1, 1, 1, device=self.device)
        return self.gaussian(nothing, nothing, torch.arange(self.steps, device=self.device))[1].flatten()

    def clean(self, prediction: Tensor, latents: Tensor, index: Tensor | int) -> Tensor:
        """The clean latents that a prediction at the beginning of steps ``index`` stands for, [B, C, h, w] (Eq. 12)."""
        return self.denoiser.process.x0(latents, prediction, self._begins[self._indices(index, len(latents))])

    def log_prob(self, sample: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Mean over the elements of the log-density, [B]; 0 where a step is deterministic."""
        return self.denoiser.process.log_prob(sample, mean, std)

    def times(self, index: Tensor) -> Tensor:
        """The diffusion times at which steps begin, [B]."""
        return self._begins[index]

    def images(self, latents: Tensor, prompts: Prompts) -> Tensor:
        """Clean latents by the deterministic sampler (η = 0) from ``latents`` [P, C, h, w]."""
        process = self.denoiser.process
        for step in range(self.steps):
            index = self._indices(step, len(latents))
            prediction = self.sampled(latents, step, prompts)
            latents, _ = process.step(prediction, latents, self._begins[index], self._ends[index], 0.0)
        return latents

    def _indices(self, index: Tensor | int, count: int) -> Tensor:
        if isinstance(index, Tensor):
            return index
        return torch.full((count,), index, device=self.device)
