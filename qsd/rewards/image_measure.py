"""The common part of reward models without weights: one number from the 8-bit pixels of each image, at its own size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from qsd.rewards.native_size import NativeSize

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

NATIVE = NativeSize()


class ImageMeasure(ABC):
    """A measure of single images; captions are ignored. See :class:`qsd.rewards.scorer.Scorer` for the interface."""

    def __init__(self, name: str, unit: str) -> None:
        self.name = name
        self.revision = ""
        self.unit = unit
        self.resolution = NATIVE.size

    def score(self, images: Sequence[Image.Image | Tensor], captions: Sequence[str]) -> NDArray[np.float32]:
        """Scores of images and their captions, float32 (N,).

        Args:
            images: of any sizes; or their RGB values, uint8 (3, H, W).
            captions: one per image, ignored.

        Raises:
            ValueError: not as many captions as images.
        """
        import numpy as np
        import torch

        _check(len(images), captions)
        pixels = [image if isinstance(image, torch.Tensor) else NATIVE.one(image) for image in images]
        return np.array([self.measure(one) for one in pixels], dtype=np.float32)

    def score_tensor(self, pixels: Tensor, captions: Sequence[str]) -> Tensor:
        """Scores (N,) of float pixels (N, 3, H, W) in [0, 1]; no number where a pixel is none.

        Raises:
            ValueError: not as many captions as images.
        """
        _check(len(pixels), captions)
        return self.measure_tensor(pixels)

    @abstractmethod
    def measure(self, pixels: Tensor) -> float:
        """The score of the RGB values of one image, uint8 (3, H, W), on any device."""

    @abstractmethod
    def measure_tensor(self, pixels: Tensor) -> Tensor:
        """Scores (N,) of float pixels (N, 3, H, W) in [0, 1]; no number where a pixel is none."""


def _check(images: int, captions: Sequence[str]) -> None:
    if images != len(captions):
        raise ValueError(f"{images} images but {len(captions)} captions")
