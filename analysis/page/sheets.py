"""The pictures of the page: for each prompt one sheet, on which the tiles of all cells lie side by side."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from analysis.data.pictures import choose_prompts, image_folders, read_pictures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from analysis.data.sweep import SweepFolder

MOST_PROMPTS = 200
MOST_BYTES = 32 * 2**20
"""Of all sheets together: what a browser still opens at once."""
SIDES = (256, 192, 128, 96, 64)
"""Pixels of a tile; the largest is taken whose sheets are small enough."""
_SAMPLE = 8
_WIDEST = 16_000
"""Pixels of a sheet; WebP ends at 16,383."""
_QUALITY = 85
_EMPTY = (228, 228, 228)


@dataclass(frozen=True)
class Sheets:
    """All tiles of a sweep.

    Attributes:
        split: of the prompts.
        cells: (cell, training seed), in the order of the tiles of a sheet.
        prompts: (prompt id, caption), chosen by a hash of the id.
        of: how many prompts the split has.
        side: pixels of a tile.
        columns: tiles in a row of a sheet.
        images: of each prompt, WebP in base64.
    """

    split: str
    cells: tuple[tuple[str, int | None], ...]
    prompts: tuple[tuple[str, str], ...]
    of: int
    side: int
    columns: int
    images: tuple[str, ...]


def make_sheets(runs: Path, sweep: SweepFolder) -> Sheets | None:
    """The sheets of the first split, by each cell's first training seed; None when no cell has images yet."""
    folders = [each for each in image_folders(runs, sweep) if each[2] is not None]
    if not folders:
        return None
    first = next(folder for _, _, folder in folders if folder is not None)
    split, prompts = choose_prompts(first, most=10**9)
    shown = prompts[:MOST_PROMPTS]
    wanted = {prompt for prompt, _ in shown}
    pictures = [read_pictures(folder, wanted) for _, _, folder in folders if folder is not None]
    side = _side(pictures, shown)
    columns = max(1, min(len(folders), _WIDEST // side))
    images = tuple(_sheet(pictures, prompt, side, columns) for prompt, _ in shown)
    cells = tuple((name, seed) for name, seed, _ in folders)
    return Sheets(split, cells, tuple(shown), len(prompts), side, columns, images)


def _side(pictures: Sequence[Mapping[str, bytes]], prompts: Sequence[tuple[str, str]]) -> int:
    """The largest side, not above that of the pictures, whose sheets are small enough, by a sample of prompts."""
    own = max(Image.open(io.BytesIO(image)).width for images in pictures for image in [*images.values()][:1])
    sides = [side for side in SIDES if side <= own] or [min(SIDES[-1], own)]
    for side in sides[:-1]:
        sample = [_sheet(pictures, prompt, side, _WIDEST // side) for prompt, _ in prompts[:_SAMPLE]]
        if sum(map(len, sample)) / len(sample) * len(prompts) <= MOST_BYTES:
            return side
    return sides[-1]


def _sheet(pictures: Sequence[Mapping[str, bytes]], prompt: str, side: int, columns: int) -> str:
    columns = min(columns, len(pictures))
    lines = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * side, lines * side), _EMPTY)
    for number, own in enumerate(pictures):
        if prompt in own:
            tile = Image.open(io.BytesIO(own[prompt])).convert("RGB")
            tile.thumbnail((side, side), Image.Resampling.LANCZOS)
            left, top = number % columns * side, number // columns * side
            sheet.paste(tile, (left + (side - tile.width) // 2, top + (side - tile.height) // 2))
    stream = io.BytesIO()
    sheet.save(stream, "WEBP", quality=_QUALITY, method=4)
    return base64.b64encode(stream.getvalue()).decode("ascii")
