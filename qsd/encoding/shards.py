"""Rows of one array in several .npy files, written one by one and read at random through memory maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qsd import shards
from qsd.errors import UserError
from qsd.files import atomic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qsd.shards import Shard

ROWS = 512
"""Rows of a shard; fixed, so that an interrupted run ends in the same files."""


def shard_path(folder: Path, stem: str, number: int) -> Path:
    """``folder/stem-00000.npy``."""
    return folder / f"{stem}-{number:05d}.npy"


def write_missing(
    folder: Path,
    stems: tuple[str, ...],
    total: int,
    compute: Callable[[int, int], tuple[npt.NDArray[np.float32], ...]],
    done: Callable[[int], None],
) -> None:
    """Write all shards of some arrays that share their rows; those that are there and intact are kept.

    Args:
        folder: where the shards are.
        stems: names of the arrays.
        total: rows of each array.
        compute: rows start to stop - 1 -> one array per stem, the first axis being the row.
        done: called after every shard with the number of rows that are there.
    """

    def paths(shard: Shard) -> list[Path]:
        return [shard_path(folder, stem, shard.number) for stem in stems]

    def is_there(shard: Shard) -> bool:
        return all(_rows(path) == shard.stop - shard.start for path in paths(shard))

    def write(shard: Shard) -> None:
        for path, array in zip(paths(shard), compute(shard.start, shard.stop), strict=True):
            _write(path, array)

    for shard in shards.write_missing(total, ROWS, is_there, write):
        done(shard.stop)


class ArrayShards:
    """The rows of one array, memory-mapped: only what is asked for is read.

    Args:
        folder: where the shards are.
        stem: name of the array.
        total: its rows.

    Raises:
        UserError: a shard is missing or damaged.
    """

    def __init__(self, folder: Path, stem: str, total: int) -> None:
        self.total = total
        self._maps = []
        for shard in shards.cut(total, ROWS):
            path = shard_path(folder, stem, shard.number)
            if _rows(path) != shard.stop - shard.start:
                raise UserError(f"{path}: missing or damaged; delete the artefact and run the encode stage again")
            self._maps.append(np.load(path, mmap_mode="r"))

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Copies of some rows, in the order asked for."""
        return np.stack([self._maps[row // ROWS][row % ROWS] for row in rows.tolist()])

    def first_number(self, row: int) -> float:
        """The first number of a row, without reading the rest."""
        return float(self._maps[row // ROWS][row % ROWS].reshape(-1)[0])


def _rows(path: Path) -> int | None:
    """Rows of an intact shard, else None: a file shorter than its header says does not map."""
    try:
        return int(np.load(path, mmap_mode="r").shape[0])
    except (OSError, ValueError):
        return None


def _write(path: Path, array: npt.NDArray[np.float32]) -> None:
    with atomic(path) as temporary, temporary.open("wb") as stream:  # given a path, np.save would add ".npy"
        np.save(stream, array)
