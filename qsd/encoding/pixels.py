"""From images to the pixels that the VAE takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_MOST_SIDES = 4
"""A longer picture is cut before it is resized, with the same result up to rounding."""


def to_pixels(images: Sequence[Image.Image], resolution: int) -> Tensor:
    """RGB images -> fp32 [B, 3, R, R] in [-1, 1]: shorter side to R (bilinear), centre crop."""
    stacked = np.stack([np.asarray(square(image, resolution)) for image in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1


def square(image: Image.Image, resolution: int) -> Image.Image:
    """The middle of an image, `resolution` pixels wide and high."""
    scale = resolution / min(image.size)
    width, height = (max(resolution, round(side * scale)) for side in image.size)
    left, top = (width - resolution) // 2, (height - resolution) // 2
    if max(width, height) > _MOST_SIDES * resolution:
        # A picture of 1500 x 1 would become 1.2 GB before all but its middle is cut off.
        across, down = image.width / width, image.height / height
        box = (left * across, top * down, (left + resolution) * across, (top + resolution) * down)
        return image.resize((resolution, resolution), Image.Resampling.BILINEAR, box=box)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image.crop((left, top, left + resolution, top + resolution))
