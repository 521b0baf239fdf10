"""High-frequency texture: the share of the luminance's energy above half the Nyquist frequency; the caption is ignored.

    Y       = 0.299 R + 0.587 G + 0.114 B                                       RGB in [0, 1]
    w[y, x] = sin²(π (y + 1/2) / H) · sin²(π (x + 1/2) / W)                      a Hann window, nowhere zero
    D       = w · (Y - Σ w Y / Σ w)                                             windowed, without its mean
    P(f)    = |DFT(D)(f)|² / (H W Σ w²)                                         sums to the windowed variance of Y
    score   = Σ P(f) over |f| > 1/4 / (Σ P(f) over all f + 1/255²)              |f| radial, in cycles per pixel

In [0, 1). The Nyquist frequency is 1/2 cycle per pixel along either axis, so the score counts structures that repeat in
less than four pixels. White noise has 1 - π/16 = 0.804, whatever the size of the image; a checkerboard of single pixels
1; a smooth gradient 0. The energy of one grey level in the denominator keeps a blank image at 0, where a plain share
would be 0/0 or that of its rounding. Resizing changes the score: only images made at one size compare.

No judge: less texture is not better. Grid texture is the symptom of reward hacking that users report most, so a rise is
a warning and a fall says nothing. It never ranks pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.rewards.image_measure import NATIVE, ImageMeasure
from qsd.rewards.without_weights import WithoutWeights

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

LUMINANCE = (0.299, 0.587, 0.114)
"""Of ITU-R BT.601, as JPEG and Pillow compute it."""
ABOVE = 0.25
"""Half the Nyquist frequency, in cycles per pixel."""
FLOOR = (1 / 255) ** 2
"""The variance of one grey level."""


class Texture(ImageMeasure):
    """Share of energy at high frequencies."""

    def measure(self, pixels: Tensor) -> float:
        """The share of one image, uint8 (3, H, W)."""
        return float(share(pixels[None].float() / 255)[0])

    def measure_tensor(self, pixels: Tensor) -> Tensor:
        """Shares (N,) of float pixels (N, 3, H, W) in [0, 1], differentiable in them."""
        return share(pixels.float())


def share(pixels: Tensor) -> Tensor:
    """The score (N,) of RGB values (N, 3, H, W) in [0, 1]; no number where a pixel is none."""
    import torch

    height, width = pixels.shape[-2:]
    luminance = (pixels * pixels.new_tensor(LUMINANCE).view(3, 1, 1)).sum(dim=1)
    window = _hann(luminance, height)[:, None] * _hann(luminance, width)
    mean = (window * luminance).sum(dim=(1, 2), keepdim=True) / window.sum()
    spectrum = torch.fft.fft2(window * (luminance - mean))
    power = (spectrum.real**2 + spectrum.imag**2) / (height * width * (window**2).sum())
    down, right = (torch.fft.fftfreq(length, device=pixels.device) for length in (height, width))
    high = (down[:, None] ** 2 + right**2).sqrt() > ABOVE
    shares: Tensor = (power * high).sum(dim=(1, 2)) / (power.sum(dim=(1, 2)) + FLOOR)
    return shares


def _hann(like: Tensor, length: int) -> Tensor:
    """The window along one axis, (length,), at the centres of the pixels."""
    import torch

    places = torch.arange(length, device=like.device, dtype=like.dtype) + 0.5
    return torch.sin(torch.pi * places / length) ** 2


def open_scorer(_folder: Path, _device: str) -> Texture:
    """The measure, which opens nothing."""
    return Texture("texture", SCORER.unit)


SCORER = WithoutWeights(open_scorer, "", "share", selects=False, preprocess=NATIVE, is_judge=False)
