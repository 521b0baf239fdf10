"""Images to the pixels a CLIP-shaped scorer takes.

Two conventions of the field, chosen by ``resize``:

* ``shortest`` (OpenAI CLIP, PickScore, LAION aesthetics): Pillow resizes the shorter side to ``size``, then the
  centre is cropped. Pillow always antialiases and rounds to 8 bits.
* ``longest`` (HPS v2): the float tensor is resized so that the longer side is ``size``, then padded with black,
  centred, left and top getting the smaller half. Antialiasing is explicit, because its default changed in
  torchvision 0.17 and with it the scores of the same image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image
    from torch import Tensor

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocess:
    """How images become pixels: ``size`` in pixels, ``mean`` and ``std`` of RGB values in [0, 1]."""

    size: int
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    resize: Literal["shortest", "longest"] = "shortest"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    antialias: bool = True

    def __post_init__(self) -> None:
        for name, value, known in (
            ("resize", self.resize, ("shortest", "longest")),
            ("interpolation", self.interpolation, ("bicubic", "bilinear")),
        ):
            if value not in known:
                raise UserError(f"preprocess.{name} is {value!r}; it must be {known[0]!r} or {known[1]!r}")
        if self.size <= 0 or any(len(values) != 3 for values in (self.mean, self.std)):
            raise UserError("preprocess needs size > 0, three means and three standard deviations")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Preprocess:
        """Read the ``preprocess`` part of a scorer's ``config.json``.

        Raises:
            UserError: an unknown or missing field, or a value out of range.
        """
        fields = dict(config)
        for name in ("mean", "std"):
            if name in fields:
                fields[name] = tuple(float(value) for value in fields[name])
        try:
            return cls(**fields)
        except TypeError as error:
            raise UserError(f"preprocess: {str(error).removeprefix('Preprocess.__init__() ')}") from None

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Images of any size and mode -> float32 (N, 3, size, size), normalised. Alpha is dropped, not composed."""
        import torch

        tensors = [self._one(image) for image in images]
        return torch.stack(tensors) if tensors else torch.zeros(0, 3, self.size, self.size)

    def differentiable(self, pixels: Tensor) -> Tensor:
        """Float pixels (N, 3, H, W) in [0, 1] -> (N, 3, size, size), normalised, with gradients.

        For images that need no resizing this equals :meth:`pixels`; else ``shortest`` differs from it by Pillow's
        rounding, below 1/255 per pixel.
        """
        if self.resize == "shortest":
            scaled = self._resized(pixels, self.size / min(pixels.shape[-2:]))
            top, left = ((length - self.size) // 2 for length in scaled.shape[-2:])
            return self._normalised(scaled[..., top : top + self.size, left : left + self.size])
        return self._normalised(self._padded(self._resized(pixels, self.size / max(pixels.shape[-2:]))))

    def _one(self, image: Image.Image) -> Tensor:
        from PIL import Image

        rgb = image.convert("RGB")
        if self.resize == "longest":
            return self.differentiable(_unit_range(rgb))[0]
        width, height = rgb.size
        if min(width, height) != self.size:
            scale = self.size / min(width, height)
            target = (max(self.size, int(width * scale)), max(self.size, int(height * scale)))
            filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
            rgb = rgb.resize(target, filters[self.interpolation])
        width, height = rgb.size
        left, top = (width - self.size) // 2, (height - self.size) // 2
        cropped = rgb.crop((left, top, left + self.size, top + self.size))
        return self._normalised(_unit_range(cropped))[0]

    def _resized(self, pixels: Tensor, scale: float) -> Tensor:
        from torch.nn.functional import interpolate

        if scale == 1:
            return pixels
        height, width = pixels.shape[-2:]
        exact_longer = max if self.resize == "longest" else min
        target = [self.size if side == exact_longer(height, width) else int(side * scale) for side in (height, width)]
        shape = (max(1, target[0]), max(1, target[1]))
        return interpolate(pixels, shape, mode=self.interpolation, align_corners=False, antialias=self.antialias)

    def _padded(self, pixels: Tensor) -> Tensor:
        from torch.nn.functional import pad

        height, width = pixels.shape[-2:]
        left, top = (self.size - width) // 2, (self.size - height) // 2
        return pad(pixels, (left, self.size - width - left, top, self.size - height - top))

    def _normalised(self, pixels: Tensor) -> Tensor:
        mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (pixels - mean) / std


def _unit_range(image: Image.Image) -> Tensor:
    """An RGB image as float32 (1, 3, H, W) in [0, 1]."""
    import numpy as np
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
