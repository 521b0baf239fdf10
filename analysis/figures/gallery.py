"""Figure ``gallery``: the same prompts and the same initial noise, one column per cell, the base model first."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from analysis.data.sweep import SweepFolder, artefact, split_order
from analysis.document.formatting import break_lines
from analysis.document.sentences import split_title
from analysis.figures.drawing import Drawing

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

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
    columns = _columns(runs, sweep)
    first = next((folder for _, _, folder in columns if folder is not None), None)
    if first is None:
        return None
    split, prompts = _choose(first)
    wanted = {prompt for prompt, _ in prompts}
    pictures = [_pictures(folder, wanted) if folder is not None else {} for _, _, folder in columns]
    sheet = _draw(sweep, split, [(name, seed) for name, seed, _ in columns], prompts, pictures)
    return Drawing(NAME, sheet, _CAPTION)


def _columns(runs: Path, sweep: SweepFolder) -> list[tuple[str, int | None, Path | None]]:
    """(cell, seed, folder of its images), base model first."""
    names = sweep.cell_names()
    names.sort(key=lambda name: name != sweep.base)
    columns: list[tuple[str, int | None, Path | None]] = []
    for name in names:
        replicate = sweep.of_cell(name)[0]
        columns.append((name, replicate.seed, artefact(runs, "generate", replicate.stages.get("generate"))))
    return columns


def _choose(folder: Path) -> tuple[str, list[tuple[str, str]]]:
    """The split, and (prompt id, caption) of the rows."""
    captions: dict[str, dict[str, str]] = {}
    for shard in sorted(folder.glob("images-*.parquet")):
        table = pq.ParquetFile(shard).read(columns=["prompt_id", "split", "caption"])
        for row in zip(*(table[name].to_pylist() for name in ("prompt_id", "split", "caption")), strict=True):
            captions.setdefault(row[1], {})[row[0]] = row[2]
    split = min(captions, key=split_order)
    chosen = sorted(captions[split], key=lambda prompt: hashlib.sha256(prompt.encode()).digest())[:_PROMPTS]
    return split, [(prompt, captions[split][prompt]) for prompt in chosen]


def _pictures(folder: Path, prompts: set[str]) -> dict[str, bytes]:
    """The image with the lowest index of each prompt; only the row groups that hold one are read."""
    # Images are large: look for the wanted rows in the small columns first.
    best: dict[str, tuple[int, Path, int, int]] = {}  # prompt -> (image index, shard, row group, row)
    for shard in sorted(folder.glob("images-*.parquet")):
        file = pq.ParquetFile(shard)
        for group in range(file.num_row_groups):
            keys = file.read_row_group(group, columns=["prompt_id", "image_index"])
            for row, (prompt, index) in enumerate(zip(*(column.to_pylist() for column in keys.columns), strict=True)):
                if prompt in prompts and (prompt not in best or index < best[prompt][0]):
                    best[prompt] = (index, shard, group, row)
    pictures: dict[str, bytes] = {}
    for shard, group in sorted({(place[1], place[2]) for place in best.values()}):
        images = pq.ParquetFile(shard).read_row_group(group, columns=["image"])["image"]
        for prompt, (_, own_shard, own_group, row) in best.items():
            if (own_shard, own_group) == (shard, group):
                pictures[prompt] = images[row].as_py()
    return pictures


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
