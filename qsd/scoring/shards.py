"""Scores on disk by shard, each written in one step, so that any number of processes may fill one folder.

A shard holds what its column's name says and nothing else, so two processes that compute the same one write the same
bytes. One that is cut off or whose pages fail their checksums counts as missing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from qsd.files import atomic
from qsd.scoring.scorer_runs import ScorerRun
from qsd.scoring.vectors import vector_column, vectors_of

Piece = tuple[int, int]
"""The requests ``start`` to ``stop - 1``."""


class ScoreShards:
    """The shards of one column below ``root``, a folder that stands for the requests."""

    def __init__(self, root: Path, column: ScorerRun) -> None:
        self.column = column
        self.folder = root / column.folder

    def path(self, piece: Piece) -> Path:
        """Where the scores of a piece are, or will be."""
        return self.folder / f"{piece[0]:010d}-{piece[1]:010d}.parquet"

    def read(self, piece: Piece) -> NDArray[np.float32] | None:
        """Scores [stop - start] of a piece, or embeddings [stop - start, D]; None if missing, cut off or damaged."""
        # The checksums are verified: a page that rotted on disk would otherwise be read as other scores.
        try:
            table = pq.read_table(self.path(piece), page_checksum_verification=True)
            scores: NDArray[np.float32] = vectors_of(table["score"])
        except (OSError, KeyError, pa.ArrowException):
            return None
        return scores if len(scores) == piece[1] - piece[0] and scores.dtype.name == "float32" else None

    def write(self, piece: Piece, scores: NDArray[np.float32]) -> None:
        """Put the scores of a piece in place; another process that does so at the same time writes the same bytes."""
        path = self.path(piece)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            pq.write_table(
                pa.table({"score": vector_column(scores)}), temporary, compression="zstd", write_page_checksum=True
            )
