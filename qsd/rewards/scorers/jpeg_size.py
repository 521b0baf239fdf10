"""Compressibility: minus the size of the image as a JPEG, in kB of 1,000 bytes; the caption is ignored.

JPEG as Pillow writes it with quality 95 and its default chroma subsampling 4:2:0, at the image's own size: only images
of one size compare. The reward of kvablack/ddpo-pytorch (``jpeg_compressibility``), whose optimum is a blank image: it
shows what a method does with a reward that says nothing of the caption. It has no gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.rewards.image_measure import NATIVE, ImageMeasure
from qsd.rewards.without_weights import WithoutWeights

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

QUALITY = 95
"""Of Pillow's JPEG encoder."""
SUBSAMPLING = "4:2:0"
"""Of the two chroma channels; Pillow's default, stated so that another default would change nothing."""
BYTES_PER_KB = 1000


class JpegSize(ImageMeasure):
    """Minus the size as a JPEG, in kB; larger is more compressible."""

    def measure(self, pixels: Tensor) -> float:
        """Minus the kB of the JPEG of one image, uint8 (3, H, W)."""
        import io

        from PIL import Image

        file = io.BytesIO()
        values = pixels.permute(1, 2, 0).contiguous().cpu().numpy()
        Image.fromarray(values).save(file, format="JPEG", quality=QUALITY, subsampling=SUBSAMPLING)
        return -file.tell() / BYTES_PER_KB

    def measure_tensor(self, pixels: Tensor) -> Tensor:
        """Minus the kB of the JPEGs of float pixels (N, 3, H, W) in [0, 1] after rounding to 8 bits; no gradient."""
        import torch

        known = pixels.detach().isfinite().flatten(1).all(dim=1)
        rounded = (pixels.detach().nan_to_num(0.0, 0.0, 0.0).clamp(0, 1) * 255).round().to(torch.uint8)
        scores = pixels.new_tensor([self.measure(image) for image in rounded], dtype=torch.float32)
        return scores.where(known, torch.nan)


def open_scorer(_folder: Path, _device: str) -> JpegSize:
    """The measure, which opens nothing."""
    return JpegSize("jpeg_size", SCORER.unit)


SCORER = WithoutWeights(open_scorer, "", "kB", preprocess=NATIVE, differentiable=False)
