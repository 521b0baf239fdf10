"""The icon table in memory: captions, splits and pixels as one uint8 array."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Icons:
    """``table``: one row per icon without its bytes; ``pixels``: uint8, shape (rows, 3, size, size)."""

    table: pd.DataFrame
    pixels: Tensor

    def rows(self, *splits: str) -> np.ndarray:
        """Row numbers of the given splits."""
        return np.flatnonzero(self.table["split"].isin(splits).to_numpy())


def load(path: Path) -> Icons:
    """Decode ``icons.parquet``."""
    table = pd.read_parquet(path)
    arrays = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in table["image"]]
    pixels = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()
    return Icons(table.drop(columns="image"), pixels)


def to_signed(pixels: Tensor) -> Tensor:
    """uint8 [0, 255] -> float32 [-1, 1]."""
    return pixels.float() / 127.5 - 1.0


def shifted(pixels: Tensor, rng: np.random.Generator, most: int) -> Tensor:
    """Each image moved by up to ``most`` pixels in x and y, white coming in at the border."""
    padded = torch.nn.functional.pad(pixels, (most, most, most, most), value=255)
    size = pixels.shape[-1]
    offsets = rng.integers(0, 2 * most + 1, size=(len(pixels), 2))
    return torch.stack([image[:, y : y + size, x : x + size] for image, (y, x) in zip(padded, offsets, strict=True)])
