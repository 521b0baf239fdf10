"""From the latents that the network sees to pixels, through the VAE in its own precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qsd.models.encoders import load_image_encoder
from qsd.models.families import Family


@dataclass
class ImageDecoder:
    """The decoder of a VAE.

    Attributes:
        vae: the autoencoder, frozen.
        device: where it is.
        family: how its latents are scaled.
    """

    vae: Any
    device: torch.device
    family: Family

    def pixels(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in [0, 1], fp32, of latents [B, C, h, w] as the network sees them.

        They are those of ``qsd.models.pipeline.decode`` before it rounds to 8 bits, and differentiable in the latents
        where gradients are on. What the VAE decodes to no number, or to an infinite one, is no number here: clipping
        to [0, 1] must not make a white pixel of it.
        """
        pixels = decoded(self.vae, self.family, latents.to(self.device)) / 2 + 0.5
        return pixels.clamp(0, 1).where(pixels.isfinite(), torch.nan)


def decoded(vae: Any, family: Family, latents: Tensor) -> Tensor:
    """What a VAE decodes from latents [B, C, h, w] as the network sees them: about [-1, 1], [B, 3, H, W], fp32."""
    scale, shift = family.latent_scale(vae)
    pixels: Tensor = vae.decode((latents / scale + shift).to(vae.dtype), return_dict=False)[0]
    return pixels.float()


def load_image_decoder(path: str, device: torch.device, precision: str = "fp32") -> ImageDecoder:
    """The VAE of a pipeline folder or hub name, computing in ``precision``.

    Raises:
        UserError: as :func:`qsd.models.encoders.load_image_encoder`.
    """
    encoder = load_image_encoder(path, device, precision)
    return ImageDecoder(encoder.vae, device, encoder.family)
