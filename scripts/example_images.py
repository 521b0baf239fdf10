"""Some different images to try the tutorial with: ``python -m scripts.example_images FOLDER``.

They are the first distinct images of the emoji world's pairs, as ``FOLDER/1.png``, ``2.png`` and so on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.parquet as pq

PAIRS = Path("experiments/emoji/assets/pairs.parquet")
COUNT = 8


def distinct_images(pairs: Path, count: int) -> list[bytes]:
    """The bytes of the first ``count`` images of a Pick-a-Pic file that differ from each other."""
    images: dict[bytes, None] = {}
    for batch in pq.ParquetFile(pairs).iter_batches(64, columns=["jpg_0", "jpg_1"]):
        images.update(dict.fromkeys(image for column in batch.columns for image in column.to_pylist()))
        if len(images) >= count:
            break
    return list(images)[:count]


def main(folder: Path) -> None:
    """Write the images."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(distinct_images(PAIRS, COUNT), start=1):
        (folder / f"{number}.png").write_bytes(image)
    print(f"{COUNT} images: {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
