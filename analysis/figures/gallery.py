"""Figure ``gallery``: the same prompts and the same initial noise, one column per cell, the base model first."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont

from analysis.data.pictures import choose_prompts, image_folders, read_pictures
from analysis.document.formatting import break_lines
from analysis.document.sentences import split_title
from analysis.figures.drawing import Drawing

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

    from analysis.data.sweep import SweepFolder

NAME = "gallery"
_CAPTION = "Each row: same prompt, same initial noise. Prompts were chosen by hash, not by hand."
_PROMPTS = 10
# Pixels.
_TILE = 128
_GAP = 8
_CAPTION_WIDTH = 190
_FONT_SIZE = 14
_INK, _PAPER, _EMPTY, _FRAME = (20, 20, 20), (255, 255, 255), (228, 228, 228), (200, 200, 200)


def gallery(runs: Path, sweep: SweepFolder) -> Drawing | None:
    """Rows are prompts of the held-out split, chosen by a hash of their id, so not by how they look.

    Each tile is the first image index of the cell's first training seed. None when no cell has images yet.
    """
    columns = image_folders(runs, sweep)
    first = next((folder for _, _, folder in columns if folder is not None), None)
    if first is None:
        return None
    split, prompts = choose_prompts(first, _PROMPTS)
    wanted = {prompt for prompt, _ in prompts}
    pictures = [read_pictures(folder, wanted) if folder is not None else {} for _, _, folder in columns]
    sheet = _draw(sweep, split, [(name, seed) for name, seed, _ in columns], prompts, pictures)
    return Drawing(NAME, sheet, _CAPTION)


def _draw(
    sweep: SweepFolder,
    split: str,
    columns: list[tuple[str, int | None]],
    prompts: list[tuple[str, str]],
    pictures: list[dict[str, bytes]],
) -> Image.Image:
    font, bold = _font("DejaVuSans.ttf"), _font("DejaVuSans-Bold.ttf")
    headings = [_wrap(name, bold, _TILE) for name, _ in columns]
    line = _FONT_SIZE * 5 // 4
    top = line * max(len(heading) for heading in headings) + _GAP * 2
    cell = _TILE + _GAP
    left = _CAPTION_WIDTH + _GAP
    width = left + cell * len(columns)
    footer = _wrap(_footer(sweep, split, columns), font, width - 2 * _GAP)
    size = (width, top + cell * len(prompts) + line * len(footer) + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, heading in enumerate(headings):
        for number, text in enumerate(reversed(heading)):
            y = top - _GAP - line * (number + 1)
            draw.text((left + column * cell, y), text, fill=_INK, font=bold)
    for row, (prompt, caption) in enumerate(prompts):
        y = top + row * cell
        _caption(draw, caption, font, y, line)
        for column, own in enumerate(pictures):
            corner = (left + column * cell, y)
            sheet.paste(_tile(own.get(prompt), font), corner)
            draw.rectangle((*corner, corner[0] + _TILE - 1, corner[1] + _TILE - 1), outline=_FRAME)
    for number, text in enumerate(footer):
        draw.text((_GAP, top + cell * len(prompts) + line * number), text, fill=_INK, font=font)
    return sheet


def _footer(sweep: SweepFolder, split: str, columns: list[tuple[str, int | None]]) -> str:
    seeds = sorted({str(seed) for _, seed in columns if seed is not None})
    return f"{sweep.name} on {sweep.experiment}, {split_title(split)}. {_CAPTION} Training seed {', '.join(seeds)}."


def _caption(draw: ImageDraw.ImageDraw, caption: str, font: FreeTypeFont, y: int, line: int) -> None:
    text = _wrap(caption, font, (_CAPTION_WIDTH - 2 * _GAP))
    most = _TILE // line
    if len(text) > most:
        text = [*text[: most - 1], text[most - 1] + " …"]
    start = y + (_TILE - line * len(text)) // 2
    for number, part in enumerate(text):
        draw.text((_GAP, start + line * number), part, fill=_INK, font=font)


def _tile(image: bytes | None, font: FreeTypeFont) -> Image.Image:
    """Small images are enlarged by whole factors without smoothing, so that their pixels show as they are."""
    side = _TILE
    tile = Image.new("RGB", (side, side), _EMPTY)
    if image is None:
        ImageDraw.Draw(tile).text((side // 2, side // 2), "missing", fill=_INK, font=font, anchor="mm")
        return tile
    picture = Image.open(io.BytesIO(image)).convert("RGB")
    factor = side // max(picture.size)
    if factor >= 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    else:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    tile.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return tile


def _wrap(text: str, font: FreeTypeFont, width: int) -> list[str]:
    return break_lines(text, lambda line: font.getlength(line) <= width)


def _font(name: str) -> FreeTypeFont:
    """DejaVu as shipped with matplotlib, so that the picture is the same on every machine."""
    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(path, _FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)
