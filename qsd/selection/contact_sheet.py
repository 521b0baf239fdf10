"""A contact sheet of pairs: those with the highest and the lowest Q, each with its images, caption and scores.

It shows what a selection by Q would train on and what it would leave out, before anything is trained.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from qsd.data import label_noise
from qsd.data.images import PairImages, pair_image_number
from qsd.data.opening import open_source
from qsd.errors import UserError
from qsd.files import read_table, texts
from qsd.quality.metrics import REGISTRY as METRICS
from qsd.selection.pair_quality import pair_quality
from qsd.selection.pairs import read_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from qsd.config.schema import ExperimentConfig

_SIDE = 128
"""Pixels of an image."""
_GAP, _MARGIN = 4, 12
_ACROSS = 4
"""Pairs in a line of the sheet."""
_LINE = 14
_TEXT_LINES = 3
_INK, _PAPER, _QUIET = (20, 20, 20), (255, 255, 255), (110, 110, 110)


@dataclass(frozen=True)
class ShownPair:
    """One pair.

    Attributes:
        pair_id, caption: of the data set.
        quality: Q.
        winner_score, loser_score: of the reward model; None where the metric reads none.
        winner, loser: RGB.
    """

    pair_id: str
    caption: str
    quality: float
    winner_score: float | None
    loser_score: float | None
    winner: Image.Image
    loser: Image.Image


def best_and_worst(
    config: ExperimentConfig, data: Path, score: Path | None, count: int
) -> tuple[list[ShownPair], list[ShownPair]]:
    """The ``count`` pairs with the highest Q, best first, and the ``count`` with the lowest, worst first.

    Ties are in the order of the pairs' ids; no pair is in both lists.

    Args:
        config: the experiment; labels are changed as it says.
        data: result of stage data.
        score: result of stage score; None for a metric that reads no scores.
        count: at least one.

    Raises:
        UserError: no pair has a Q; a result is damaged; the metric refuses the scores; an image does not decode.
    """
    pairs = read_pairs(data, score)
    if label_noise.changes_labels(config.data):
        if score is None:
            raise UserError("labels are changed by their scores; give --input score=FOLDER too")
        scores = read_table(score / "scores.parquet")
        pairs = label_noise.inject_flips(pairs, scores, config.data.flip_fraction, config.data.relabel)
    values = pair_quality(config, pairs)
    finite = np.flatnonzero(np.isfinite(values))
    if not len(finite):
        raise UserError(f"no pair has a Q by quality.metric '{config.quality.metric}'")
    ids = np.array(texts(pairs["pair_id"]), dtype=object)[finite]
    order = finite[np.lexsort((ids, -values[finite]))]
    best = order[:count]
    worst = order[max(count, len(order) - count) :][::-1]
    places = read_table(data / "pairs.parquet", ["pair_id", "source_row", "winner_uid", "loser_uid"])
    images = PairImages(open_source(config.data), places)
    source_rows = places["source_row"].to_numpy().tolist()
    rows: dict[str, int] = dict(zip(texts(places["pair_id"]), source_rows, strict=True))
    # A source is read in ascending order; the sheet is not in that order.
    wanted = sorted({*best, *worst}, key=lambda number: rows[str(pairs["pair_id"][int(number)])])
    shown = {number: _shown(pairs, int(number), float(values[number]), rows, images) for number in wanted}
    return [shown[number] for number in best], [shown[number] for number in worst]


def _shown(pairs: pa.Table, number: int, value: float, rows: dict[str, int], images: PairImages) -> ShownPair:
    row = pairs.slice(number, 1).to_pylist()[0]
    source_row = rows[row["pair_id"]]
    first, second = (images.image(pair_image_number(source_row, side)) for side in ("winner", "loser"))
    if row.get("flipped"):
        first, second = second, first
    return ShownPair(
        row["pair_id"], row["caption"], value, row.get("winner_score"), row.get("loser_score"), first, second
    )


def contact_sheet(title: str, best: Sequence[ShownPair], worst: Sequence[ShownPair]) -> Image.Image:
    """One picture: a title, the best pairs, the worst pairs; in each pair the winner stands on the left."""
    tile = (2 * _SIDE + _GAP, _SIDE + _TEXT_LINES * _LINE + 2 * _GAP)
    across = max(1, min(_ACROSS, max(len(best), len(worst))))
    groups = [("Highest Q (winner left, loser right)", best), ("Lowest Q (winner left, loser right)", worst)]
    width = 2 * _MARGIN + across * tile[0] + (across - 1) * _MARGIN
    lines = textwrap.wrap(title, max(20, width // 7))
    height = _MARGIN + len(lines) * (_LINE + 4)
    height += sum(2 * _LINE + math.ceil(len(pairs) / across) * (tile[1] + _MARGIN) for _, pairs in groups if pairs)
    sheet = Image.new("RGB", (width, height + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    top = _MARGIN
    for line in lines:
        draw.text((_MARGIN, top), line, fill=_INK, font=_font(14))
        top += _LINE + 4
    for heading, pairs in groups:
        if not pairs:
            continue
        draw.text((_MARGIN, top + _LINE // 2), heading, fill=_INK, font=_font(12))
        top += 2 * _LINE
        for number, pair in enumerate(pairs):
            left = _MARGIN + number % across * (tile[0] + _MARGIN)
            _draw_pair(sheet, draw, pair, left, top + number // across * (tile[1] + _MARGIN))
        top += math.ceil(len(pairs) / across) * (tile[1] + _MARGIN)
    return sheet


def _draw_pair(sheet: Image.Image, draw: ImageDraw.ImageDraw, pair: ShownPair, left: int, top: int) -> None:
    for place, image in enumerate((pair.winner, pair.loser)):
        small = image.convert("RGB")
        small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        corner = left + place * (_SIDE + _GAP)
        sheet.paste(small, (corner + (_SIDE - small.width) // 2, top + (_SIDE - small.height) // 2))
        draw.rectangle((corner, top, corner + _SIDE - 1, top + _SIDE - 1), outline=(210, 210, 210))
    below = top + _SIDE + _GAP
    scores = ""
    if pair.winner_score is not None and pair.loser_score is not None:
        scores = f"   scores {pair.winner_score:.3g} and {pair.loser_score:.3g}"
    draw.text((left, below), f"Q {pair.quality:.3g}{scores}", fill=_INK, font=_font(11))
    caption = textwrap.shorten(" ".join(pair.caption.split()), 84, placeholder=" …")
    for number, line in enumerate(textwrap.wrap(caption, 44)[: _TEXT_LINES - 1]):
        draw.text((left, below + (number + 1) * _LINE), line, fill=_QUIET, font=_font(11))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu, which comes with matplotlib and has more of the world's letters than Pillow's own font."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def scores_are_read(config: ExperimentConfig) -> bool:
    """Whether Q needs the result of stage score."""
    return METRICS.get(config.quality.metric).uses_scores or label_noise.changes_labels(config.data)
