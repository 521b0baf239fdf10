"""The artefact of the generate stage: images-00000.parquet, … with lossless WebP bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from qsd.errors import UserError
from qsd.files import read_table, write_table
from qsd.generation.generator import Wanted

SHARD_IMAGES = 64
"""Images of a shard; fixed, so that an interrupted run ends in the same files."""


@dataclass(frozen=True)
class GeneratedImage:
    """One row of a shard, the image decoded as RGB."""

    prompt_id: str
    split: str
    caption: str
    image_index: int
    image: Image.Image


def shard_path(folder: Path, number: int) -> Path:
    """``folder/images-00000.parquet``."""
    return folder / f"images-{number:05d}.parquet"


def write_shard(path: Path, wanted: Sequence[Wanted], files: Sequence[bytes]) -> None:
    """Write one shard in one step; ``files`` are those of its images (:func:`webp`)."""
    columns: dict[str, Any] = {
        "prompt_id": pa.array([item.prompt.prompt_id for item in wanted], pa.string()),
        "split": pa.array([item.prompt.split for item in wanted], pa.string()),
        "caption": pa.array([item.prompt.caption for item in wanted], pa.string()),
        "image_index": pa.array([item.image_index for item in wanted], pa.int32()),
        "image": pa.array(files, pa.binary()),
    }
    write_table(path, pa.table(columns))


def read_images(folder: Path) -> Iterator[GeneratedImage]:
    """All images of a generate artefact in order, one shard in memory at a time.

    Raises:
        UserError: no image there, or a damaged shard.
    """
    for path in _shards(folder):
        yield from read_shard(path)


def read_shard(path: Path) -> Iterator[GeneratedImage]:
    """The images of one shard in order.

    Raises:
        UserError: it is missing or damaged.
    """
    for row in read_table(path).to_pylist():
        image = Image.open(io.BytesIO(row.pop("image"))).convert("RGB")
        yield GeneratedImage(**row, image=image)


class GeneratedImageSource:
    """The image files of a generate artefact, by their place in it from 0 (``qsd.data.images.ImageSource``).

    Attributes:
        about: a row per image: prompt_id, split, caption, image_index.

    Raises:
        UserError: no image there, or a damaged shard.
    """

    def __init__(self, folder: Path) -> None:
        paths = _shards(folder)
        parts = [read_table(path, ["prompt_id", "split", "caption", "image_index"]) for path in paths]
        self.about = pa.concat_tables(parts)
        self._places = [(path, row) for path, part in zip(paths, parts, strict=True) for row in range(part.num_rows)]
        self._open: tuple[Path, pa.ChunkedArray[Any]] | None = None

    def bytes_of(self, number: int) -> bytes:
        """The file of the image at a place; the shard that was asked for last stays in memory."""
        path, row = self._places[number]
        # Images are asked for in order, so one shard in memory suffices.
        if self._open is None or self._open[0] != path:
            self._open = path, read_table(path, ["image"])["image"]
        data: bytes = self._open[1][row].as_py()
        return data

    def unreadable(self, number: int, error: ValueError) -> UserError:
        """The error for an image whose bytes have changed since its shard was written."""
        path, row = self._places[number]
        return UserError(f"{path}, image {row}: {error}; generate the images again")


def webp(image: Image.Image) -> bytes:
    """The lossless file of an image; Pillow makes it without holding Python's lock."""
    stream = io.BytesIO()
    image.save(stream, format="WEBP", lossless=True, method=1)  # 4 takes four times as long to save 5 % of the bytes
    return stream.getvalue()


def _shards(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("images-*.parquet"))
    if not paths:
        raise UserError(f"{folder}: no images-*.parquet; is the folder an artefact of the generate stage?")
    return paths
