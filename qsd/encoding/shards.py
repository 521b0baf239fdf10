"""Rows of one array in several .npy files, written one by one and read at random through memory maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qsd.errors import UserError
from qsd.files import atomic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
    """Write all shards of some arrays that share their rows; those already there and intact are kept.

    Args:
        folder: where the shards are.
        stems: names of the arrays.
        total: rows of each array.
        compute: rows start to stop - 1 -> one array per stem, the first axis being the row.
        done: told the number of rows that are there.
    """
    for number, start in enumerate(range(0, total, ROWS)):
        stop = min(start + ROWS, total)
        paths = [shard_path(folder, stem, number) for stem in stems]
        if not all(_rows(path) == stop - start for path in paths):
            for path, array in zip(paths, compute(start, stop), strict=True):
                _write(path, array)
        done(stop)


class Shards:
    """Rows of ``stem``, memory-mapped; only what is asked for is read.

    Raises:
        UserError: a shard is missing or damaged.
    """

    def __init__(self, folder: Path, stem: str, total: int) -> None:
        self.total = total
        self._maps = []
        for number, start in enumerate(range(0, total, ROWS)):
            path = shard_path(folder, stem, number)
            if _rows(path) != min(ROWS, total - start):
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
