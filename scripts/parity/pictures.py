"""Images of every shape and mode, and captions of every kind, the same for originals and tests."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

CAPTIONS = [
    "a red fox in the snow",
    "A Cat With TWO horns on its head",
    "",
    "caf\u00e9 \u2603 \u732b, na\u00efve r\u00e9sum\u00e9",
    "tom &amp; jerry, 100% &lt;cute&gt;",
    "mis-decoded: cafÃ© \u00e2\u20ac\u0153quoted\u00e2\u20ac\u009d",
    "  spaces \t and\nlines  ",
    "don't you're 1234 it's",
    " ".join(["a very long caption of many words that no context holds,"] * 20),
    "[ENC] <|endoftext|> [SEP] end",
]


def noise(width: int, height: int, channels: int = 3) -> np.ndarray:
    """Waves with noise on them, uint8 [height, width, channels]."""
    rows, columns = np.mgrid[0:height, 0:width]
    raw = np.random.PCG64(1000 * width + height).random_raw(height * width)
    grain = (raw % np.uint64(64)).astype(np.int64).reshape(height, width)
    layers = [
        96 + 80 * np.sin(columns / (7 + 11 * channel) + rows / (23 - 5 * channel)) + grain
        for channel in range(channels)
    ]
    return np.clip(np.stack(layers, axis=-1), 0, 255).astype(np.uint8)


def pictures() -> dict[str, Image.Image]:
    """Images by name."""
    gray = noise(260, 224, 1)[..., 0]
    palette = Image.fromarray(noise(320, 200)).quantize(32)
    return {
        "exact 224x224": Image.fromarray(noise(224, 224)),
        "wide 640x480": Image.fromarray(noise(640, 480)),
        "tall 301x707": Image.fromarray(noise(301, 707)),
        "three to cut 227x224": Image.fromarray(noise(227, 224)),
        "rounding 250x333": Image.fromarray(noise(250, 333)),
        "longer side 224: 224x100": Image.fromarray(noise(224, 100)),
        "one pixel 1x1": Image.fromarray(noise(1, 1)),
        "tiny 3x2": Image.fromarray(noise(3, 2)),
        "strip 400x5": Image.fromarray(noise(400, 5)),
        "huge 4001x2600": Image.fromarray(noise(4001, 2600)),
        "grayscale 260x224": Image.fromarray(gray),
        "RGBA 300x200": Image.fromarray(noise(300, 200, 4), "RGBA"),
        "CMYK 300x200": Image.fromarray(noise(300, 200, 4), "CMYK"),
        "palette 320x200": palette,
        "16 bit 260x224": Image.fromarray(gray.astype(np.uint16) * 3),
    }


def summary(pixels: torch.Tensor) -> list[float]:
    """Pixels [3, 224, 224] as 147 means of blocks of 32 and 24 single values, rounded to 7 digits."""
    blocks = pixels.double().reshape(3, 7, 32, 7, 32).mean(dim=(2, 4)).flatten()
    singles = pixels.double().flatten()[:: pixels.numel() // 23][:24]
    return [round(float(value), 7) for value in torch.cat([blocks, singles])]
