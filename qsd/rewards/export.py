"""Images and captions written out for a judge that runs elsewhere; its scores come back as ``precomputed``."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from qsd.data.images import decode
from qsd.errors import UserError
from qsd.files import atomic, write_bytes
from qsd.rewards.precomputed import image_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL import Image

    from qsd.runtime import Report

TABLE = "requests.csv"
IMAGES = "images"


def export_images(place: Path, reader: str | None, out: Path, report: Report) -> tuple[int, int]:
    """Write every distinct image as ``images/<digest>.png``, and ``requests.csv`` with image and caption.

    Run again, it writes what is missing.

    Args:
        place: a data set of pairs, or the folder of a generate artefact.
        reader: layout of the data set; detected if None.
        out: folder for both.
        report: progress.

    Returns:
        Numbers of distinct images and of distinct (image, caption).

    Raises:
        UserError: nothing to read there, or no image in it.
    """
    folder = out / IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    items: dict[tuple[str, str], None] = {}
    for image, caption in _images(place, reader, report):
        digest = image_digest(image.width, image.height, image.tobytes())
        items[digest, caption] = None
        path = folder / f"{digest}.png"
        if not path.exists():
            stream = io.BytesIO()
            image.save(stream, format="PNG")
            write_bytes(path, stream.getvalue())
    if not items:
        raise UserError(f"{place}: has no readable image")
    with atomic(out / TABLE) as temporary, temporary.open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(("image", "caption"))
        writer.writerows(items)
    return len({digest for digest, _ in items}), len(items)


def _images(place: Path, reader: str | None, report: Report) -> Iterator[tuple[Image.Image, str]]:
    """The images with their captions, in RGB."""
    if reader is None and place.is_dir() and any(place.glob("images-*.parquet")):
        from qsd.generation.images import GeneratedImageSource

        generated = GeneratedImageSource(place)
        captions = generated.about["caption"].to_pylist()
        for number, caption in enumerate(captions):
            yield decode(generated.bytes_of(number)), str(caption)
            report(number + 1, len(captions), "images")
        return
    from qsd.data.examine import examine_rows
    from qsd.data.opening import open_path
    from qsd.data.pairs import PreferencePair

    _, source = open_path(place, reader)
    for row, outcome in examine_rows(source, 0, len(source), 1):
        # Rows that the data stage would refuse are never scored.
        if isinstance(outcome, PreferencePair) and row.winner is not None and row.loser is not None:
            yield decode(row.winner), outcome.caption
            yield decode(row.loser), outcome.caption
        report(row.number + 1, len(source), "rows")
