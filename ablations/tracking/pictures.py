"""A few images of a cell: of the same prompts in every cell, so that W&B shows cells side by side."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

KEY = "images"
"""The name under which W&B shows them."""
MOST_PROMPTS = 8
MOST_PIXELS = 256


@dataclass(frozen=True)
class Picture:
    """An image (``PIL.Image.Image``, at most ``MOST_PIXELS`` wide and high) and the caption that it was drawn for."""

    image: Any
    caption: str


def prompt_pictures(folder: Path) -> list[Picture]:
    """The first image of up to ``MOST_PROMPTS`` prompts in a finished stage ``generate``.

    They are held-out prompts where there are any, chosen by a hash of their ids and thus equal in all cells.
    """
    from PIL import Image

    from analysis.data.pictures import choose_prompts, read_pictures

    _, chosen = choose_prompts(folder, MOST_PROMPTS)
    contents = read_pictures(folder, {prompt for prompt, _ in chosen})
    pictures: list[Picture] = []
    for prompt, caption in chosen:
        image = Image.open(io.BytesIO(contents[prompt])).convert("RGB")
        image.thumbnail((MOST_PIXELS, MOST_PIXELS))
        pictures.append(Picture(image, caption))
    return pictures
