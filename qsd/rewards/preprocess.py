"""Images to the pixels a CLIP-shaped scorer takes.

Two conventions of the field, chosen by ``resize``:

* ``shortest`` (OpenAI CLIP, PickScore, ImageReward, LAION aesthetics): Pillow resizes the shorter side to ``size``,
  the longer one to int(size · longer / shorter), then the centre is cropped. Pillow always antialiases and rounds to
  8 bits. Where an odd number of pixels is cut, transformers leaves floor(n / 2) of them at the left and the top,
  torchvision round(n / 2), which is one more for n = 3, 7, 11, …: ``crop`` says which.
* ``longest`` (HPS v2): the float tensor is resized so that the longer side is ``size`` and the shorter one
  round(shorter · size / longer), then padded with black, centred, left and top getting the smaller half. Antialiasing
  is explicit, because its default changed in torchvision 0.17 and with it the scores of the same image.

Images are made RGB first. The originals of HPS v2 and PickScore do so too; those of ImageReward and OpenAI's CLIP
resize in the file's own mode, which is the same for RGB and grey images (``docs/reward_models.md`` has the others).
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
    crop: Literal["floor", "round"] = "floor"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("resize", self.resize, ("shortest", "longest")),
            ("interpolation", self.interpolation, ("bicubic", "bilinear")),
            ("crop", self.crop, ("floor", "round")),
        ):
            if value not in known:
                raise UserError(f"preprocess.{name} is {value!r}; it must be {known[0]!r} or {known[1]!r}")
        if self.size <= 0 or any(len(values) != 3 for values in (self.mean, self.std)):
            raise UserError("preprocess needs size > 0, three means and three standard deviations")
        if not all(value > 0 and value < float("inf") for value in self.std):
            raise UserError("preprocess.std must be three finite numbers above 0")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Preprocess:
        """Read the ``preprocess`` part of a scorer's ``config.json``.

        Raises:
            UserError: an unknown or missing field, or a value out of range.
        """
        try:
            fields = dict(config)
            for name in ("mean", "std"):
                if name in fields:
                    fields[name] = tuple(float(value) for value in fields[name])
            return cls(**fields)
        except (TypeError, ValueError) as error:
            raise UserError(f"preprocess: {str(error).removeprefix('Preprocess.__init__() ')}") from None

    def pixels(self, images: Sequence[Image.Image | Tensor]) -> Tensor:
        """Images of any size and mode -> float32 (N, 3, size, size), normalised. Alpha is dropped, not composed.

        A tensor (3, size, size) among them is the result of :meth:`one` for an image, and is used unchanged.
        """
        import torch

        tensors = [image if isinstance(image, torch.Tensor) else self.one(image) for image in images]
        return torch.stack(tensors) if tensors else torch.zeros(0, 3, self.size, self.size)

    def differentiable(self, pixels: Tensor) -> Tensor:
        """Float pixels (N, 3, H, W) in [0, 1] -> (N, 3, size, size), normalised, with gradients.

        For images that need no resizing this equals :meth:`pixels`; else ``shortest`` differs from it by Pillow's
        rounding, below 1/255 per pixel.
        """
        height, width = pixels.shape[-2:]
        scaled = self._resized(pixels, self._target(height, width))
        if self.resize == "longest":
            return self._normalised(self._padded(scaled))
        left, top = self._corner(scaled.shape[-1], scaled.shape[-2])
        return self._normalised(scaled[..., top : top + self.size, left : left + self.size])

    def one(self, image: Image.Image) -> Tensor:
        """An image of any size and mode -> float32 (3, size, size), normalised."""
        from PIL import Image

        rgb = image.convert("RGB")
        if self.resize == "longest":
            return self.differentiable(_unit_range(rgb))[0]
        height, width = self._target(rgb.height, rgb.width)
        if (width, height) != rgb.size:
            filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
            rgb = rgb.resize((width, height), filters[self.interpolation])
        left, top = self._corner(width, height)
        cropped = rgb.crop((left, top, left + self.size, top + self.size))
        return self._normalised(_unit_range(cropped))[0]

    def _target(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels after resizing; a side never gets lost."""
        if self.resize == "longest":
            scale = self.size / max(height, width)
            return max(1, round(height * scale)), max(1, round(width * scale))
        shorter = min(height, width)
        return int(self.size * height / shorter), int(self.size * width / shorter)

    def _corner(self, width: int, height: int) -> tuple[int, int]:
        """Left and top of the central square."""
        cut = (width - self.size, height - self.size)
        left, top = (length // 2 if self.crop == "floor" else round(length / 2) for length in cut)
        return left, top

    def _resized(self, pixels: Tensor, target: tuple[int, int]) -> Tensor:
        from torch.nn.functional import interpolate

        if target == tuple(pixels.shape[-2:]):
            return pixels
        return interpolate(pixels, target, mode=self.interpolation, align_corners=False, antialias=self.antialias)

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
