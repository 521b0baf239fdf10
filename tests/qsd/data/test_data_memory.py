"""Readers stream: what the data stage and the reading of images add to memory does not grow with the data set."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.qsd import tiny_lists as lists
from tests.qsd.tiny_world import picture, write_rows

PAIRS = 900
WARM_UP = 150
IMAGE_BYTES = 60_000
MOST_OF_THE_IMAGES = 0.35

MEASURE = """
import json, sys
from pathlib import Path
from qsd.data.describe import describe
from qsd.data.images import PairImages, pair_image_number
from qsd.data.readers import REGISTRY
from qsd.runtime import silent
import PIL.Image, PIL.JpegImagePlugin, pyarrow.parquet, zipfile

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

reader, small, path = sys.argv[1:]

def read(path):
    source = REGISTRY.get(reader).open(Path(path))
    described = describe(source, 1, silent)
    images, total = PairImages(source), 0
    for number in range(len(source)):
        for side in ("winner", "loser"):
            total += len(images.bytes_of(pair_image_number(number, side)))
    return len(described.pairs), total

read(small)
before = peak()
pairs, total = read(path)
print(json.dumps({"pairs": pairs, "bytes": total, "growth": peak() - before}))
"""


def heavy_pairs(count: int) -> list[lists.Pair]:
    """Small JPEGs with random bytes behind their end, which a decoder does not read: heavy files, quick to check."""
    random = np.random.default_rng(0)
    small = picture(0, kind="JPEG")

    def heavy() -> bytes:
        return small + random.bytes(IMAGE_BYTES)

    return [lists.Pair(f"picture {number}", heavy(), heavy()) for number in range(count)]


def row_groups(folder: Path, pairs: list[lists.Pair]) -> Path:
    """Written as pandas, arrow and the hub write: a page holds up to 1,024 rows, so a row group is a page."""
    folder.mkdir()
    return write_rows(folder / "all.parquet", lists.pickapic_rows(pairs), group=50)


def one_row_group(folder: Path, pairs: list[lists.Pair]) -> Path:
    """One row group of small pages: only the page must fit into memory."""
    table = pq.read_table(row_groups(folder, pairs))
    pq.write_table(table, folder / "all.parquet", row_group_size=len(pairs), write_batch_size=8)
    return folder / "all.parquet"


WRITERS = {
    "pickapic row groups": row_groups,
    "pickapic one row group": one_row_group,
    "hpd_v2": lists.hpd_train,
    "hpd_v2 zip": lists.hpd_train_zip,
    "own_pairs": lists.own_csv,
    "image_reward": lists.reward_db,
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="waits for Linux: peak memory is read from /proc")
@pytest.mark.parametrize("layout", WRITERS)
def test_memory_does_not_grow_with_the_data_set(layout: str, tmp_path: Path) -> None:
    pairs = heavy_pairs(PAIRS)
    small, path = (
        WRITERS[layout](tmp_path / name, some) for name, some in (("small", pairs[:WARM_UP]), ("all", pairs))
    )
    arguments = [layout.split()[0], str(small), str(path)]
    done = subprocess.run([sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)
    assert measured["pairs"] == PAIRS
    assert measured["bytes"] == sum(len(image) for pair in pairs for image in pair[1:])
    share = measured["growth"] / measured["bytes"]
    print(f"{layout}: grew by {share:.1%} of {measured['bytes'] / 1e6:.0f} MB of images")
    assert share < MOST_OF_THE_IMAGES
