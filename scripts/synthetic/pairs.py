"""A preference data set of random images in Pick-a-Pic's layout."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SIZE = 32
"""Default width and height of an image in pixels."""


def picture(seed: int, width: int = SIZE, height: int = SIZE, kind: str = "PNG") -> bytes:
    """The file bytes of an image of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def good_rows(count: int) -> list[dict[str, Any]]:
    """Rows without damage; rows 2k and 2k + 1 have the same images with different captions."""
    return [
        {
            "jpg_0": picture(4 * (number // 2)),
            "jpg_1": picture(4 * (number // 2) + 1, SIZE + 8, SIZE - 4, "JPEG"),
            "label_0": float(number % 3 == 0),
            "caption": f"picture {number}, tiny style",
            "ranking_id": 1000 + number,
            "user_id": f"user {number % 3}",
        }
        for number in range(count)
    ]


def write_rows(path: Path, rows: list[dict[str, Any]], group: int = 8) -> Path:
    """A parquet file in Pick-a-Pic's layout, `group` rows to a row group."""
    table = pa.Table.from_pylist(rows)
    for place, name in enumerate(table.schema.names):
        if name.startswith("jpg"):
            table = table.set_column(place, name, table[name].cast(pa.binary()))
    pq.write_table(table, path, row_group_size=group)
    return path
