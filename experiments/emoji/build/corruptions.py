"""Graded corruption of images, similar to the errors of half-trained generators, at a known severity.

The judge and the aesthetic head learn from them what a clean image is. Kinds: blur, noise, warp (melted outlines),
ghost (two things at once), wash (pale colours), scramble (parts in wrong places), latent noise (the autoencoder's own
failures).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

Corruption = Callable[[Tensor, Tensor, np.random.Generator], Tensor]
"""(images [B, 3, H, W] in [-1, 1], severity [B] in [0, 1], generator) -> damaged images."""


def _normal(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def blur(images: Tensor, severity: Tensor, rng: np.random.Generator) -> Tensor:
    """Towards a four times smaller copy scaled up again."""
    size = images.shape[-1]
    small = F.interpolate(images, size=size // 4, mode="area")
    coarse = F.interpolate(small, size=size, mode="bilinear", align_corners=False)
    return images.lerp(coarse, severity[:, None, None, None])


def noise(images: Tensor, severity: Tensor, rng: np.random.Generator) -> Tensor:
    """Smooth coloured noise, up to standard deviation 0.6."""
    batch, _, size, _ = images.shape
    grain = F.interpolate(_normal(rng, batch, 3, size // 2, size // 2), size=size, mode="bilinear", align_corners=False)
    return images + 0.6 * severity[:, None, None, None] * grain


def warp(images: Tensor, severity: Tensor, rng: np.random.Generator) -> Tensor:
    """A smooth random displacement, up to about a fifth of the width."""
    batch, _, size, _ = images.shape
    field = F.interpolate(_normal(rng, batch, 2, 5, 5), size=size, mode="bicubic", align_corners=True)
    axis = torch.linspace(-1, 1, size)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
    moved = grid + 0.35 * severity[:, None, None, None] * field.permute(0, 2, 3, 1)
    return F.grid_sample(images, moved, mode="bilinear", padding_mode="border", align_corners=True)


def ghost(images: Tensor, severity: Tensor, rng: np.random.Generator) -> Tensor:
    """Another image of the batch shining through, up to half and half."""
    other = images[torch.from_numpy(np.roll(np.arange(len(images)), int(rng.integers(1, max(2, len(images))))))]
    return images.lerp(other, 0.5 * severity[:, None, None, None])


def wash(images: Tensor, severity: Tensor, rng: np.random.Generator) -> Tensor:
    """Colours faded towards their grey and towards white."""
    grey = images.mean(dim=1, keepdim=True).expand_as(images)
    pale = 0.5 * grey + 0.5
    return images.lerp(pale, 0.8 * severity[:, None, None, None])


def scramble(images: Tensor, severity: Tensor, rng: np.random.Generator) -> Tensor:
    """Square cells (a sixteenth of the image each) change places; severity is the share of cells that move."""
    batch, channels, size, _ = images.shape
    cell = size // 4
    cells = images.unfold(2, cell, cell).unfold(3, cell, cell).reshape(batch, channels, 16, cell, cell)
    order = np.tile(np.arange(16), (batch, 1))
    for row, share in zip(order, severity.tolist(), strict=True):
        moving = rng.permutation(16)[: round(16 * share)]
        row[moving] = row[np.roll(moving, 1)]
    index = torch.from_numpy(order)[:, None, :, None, None].expand_as(cells)
    mixed = cells.gather(2, index).reshape(batch, channels, 4, 4, cell, cell)
    return mixed.permute(0, 1, 2, 4, 3, 5).reshape(images.shape)


def latent_noise(vae: AutoencoderKL, scale: float) -> Corruption:
    """Noise in the autoencoder's latents, up to ``scale`` standard deviations, smooth and rough mixed."""

    @torch.no_grad()
    def damage(images: Tensor, severity: Tensor, rng: np.random.Generator) -> Tensor:
        latents = vae.encode(images).latent_dist.mode()
        rough = _normal(rng, *latents.shape)
        smooth = F.interpolate(_normal(rng, *latents.shape[:2], 2, 2), size=latents.shape[-1], mode="bicubic")
        mix = torch.from_numpy(rng.random((len(images), 1, 1, 1), dtype=np.float32))
        deviation = latents.std(dim=(0, 2, 3), keepdim=True)
        noisy = latents + scale * severity[:, None, None, None] * deviation * (mix * rough + (1 - mix) * smooth)
        return vae.decode(noisy).sample

    return damage


PIXEL_KINDS: tuple[Corruption, ...] = (blur, noise, warp, ghost, wash, scramble)


def corrupt(
    images: Tensor, severity: Tensor, rng: np.random.Generator, kinds: tuple[Corruption, ...] = PIXEL_KINDS
) -> Tensor:
    """Each image damaged by one random kind at its severity, clipped to [-1, 1]."""
    output = images.clone()
    chosen = rng.integers(0, len(kinds), size=len(images))
    for number, kind in enumerate(kinds):
        rows = torch.from_numpy(np.flatnonzero(chosen == number))
        if len(rows):
            output[rows] = kind(images[rows], severity[rows], rng)
    return output.clamp(-1, 1)
