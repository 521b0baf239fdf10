"""Pixels as they are: for reward models that measure the file or the pixels themselves, which resizing would change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.rewards.preprocess import Preprocess

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image
    from torch import Tensor


@dataclass(frozen=True)
class NativeSize(Preprocess):
    """Neither resizes nor normalises; ``size`` 0 says so."""

    size: int = 0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        """There is nothing to check: it has no settings."""

    def one(self, image: Image.Image) -> Tensor:
        """An image of any size and mode -> its RGB values, uint8 (3, H, W). Alpha is dropped, not composed."""
        import numpy as np
        import torch

        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()

    def pixels(self, images: Sequence[Image.Image | Tensor]) -> Tensor:
        """Images of one size -> their RGB values, uint8 (N, 3, H, W)."""
        import torch

        tensors = [image if isinstance(image, torch.Tensor) else self.one(image) for image in images]
        return torch.stack(tensors) if tensors else torch.zeros(0, 3, 0, 0, dtype=torch.uint8)

    def differentiable(self, pixels: Tensor) -> Tensor:
        """Float pixels (N, 3, H, W) in [0, 1], unchanged."""
        return pixels
