"""The common part of reward models on images: from images or pixels and captions to one number each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from qsd.rewards.preprocess import Preprocess


class PixelScorer(ABC):
    """A scorer that preprocesses images and computes the rest in torch; see :class:`qsd.rewards.scorer.Scorer`.

    Attributes:
        preprocess: preprocessing of its images.
    """

    preprocess: Preprocess

    @property
    def resolution(self) -> int:
        """Side of the square input, in pixels."""
        return self.preprocess.size

    def score(self, images: Sequence[Image.Image | Tensor], captions: Sequence[str]) -> NDArray[np.float32]:
        """Scores of images and their captions, float32 (N,), without gradients.

        Raises:
            ValueError: not as many captions as images.
        """
        import numpy as np
        import torch

        if not images:
            return np.zeros(0, dtype=np.float32)
        with torch.inference_mode():
            scores = self._as_many(self.preprocess.pixels(images), captions)
        values: NDArray[np.float32] = scores.float().cpu().numpy()
        return values

    def score_tensor(self, pixels: Tensor, captions: Sequence[str]) -> Tensor:
        """Scores (N,) of float pixels (N, 3, H, W) in [0, 1], differentiable in the pixels.

        Raises:
            ValueError: not as many captions as images.
        """
        return self._as_many(self.preprocess.differentiable(pixels), captions)

    def _as_many(self, pixels: Tensor, captions: Sequence[str]) -> Tensor:
        if len(pixels) != len(captions):
            raise ValueError(f"{len(pixels)} images but {len(captions)} captions")
        return self._scores(pixels, captions)

    @abstractmethod
    def _scores(self, pixels: Tensor, captions: Sequence[str]) -> Tensor:
        """Scores (N,) of preprocessed pixels (N, 3, S, S) on any device, with their captions."""
