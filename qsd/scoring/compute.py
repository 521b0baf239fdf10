"""Compute scores by shard: one pass over the images for all columns that lack some, in any number of processes.

Process i of n takes every n-th piece first and then, from the end backwards, all that is still missing. So the work of
a process that ended early or never began is done by the others, and none waits for another. Which process computes a
piece has no effect on its content.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qsd.data.images import ImageSource
from qsd.errors import UserError
from qsd.rewards.opening import open_reward
from qsd.rewards.requests import Requests
from qsd.rewards.scorer import Scorer
from qsd.runtime import Report
from qsd.scoring.memory_groups import group_by_memory
from qsd.scoring.precision import computing
from qsd.scoring.prefetch import Loaded, prefetch
from qsd.scoring.scorer_runs import ScorerRun
from qsd.scoring.shards import Piece, ScoreShards

_TRIES = 3
"""Attempts to have all shards: another process may delete a shared folder while its shards are read."""
PIECE_BATCHES = 8
"""Batches per shard, which is the most that a kill can cost."""


@dataclass(frozen=True)
class ScoringJob:
    """What is to be scored, and how.

    Attributes:
        images: where the image files come from.
        requests: the distinct (image, caption) to score.
        root: folder of the shards; it stands for these requests.
        device: torch device.
        workers: threads that decode.
    """

    images: ImageSource
    requests: Requests
    root: Path
    device: str
    workers: int

    def pieces(self, column: ScorerRun) -> list[Piece]:
        """How the requests are cut into shards of a column."""
        return self.requests.pieces(PIECE_BATCHES * column.batch_size)

    def scores(self, column: ScorerRun) -> NDArray[np.float32] | None:
        """The scores [M] of all requests, in their order, or embeddings [M, D]; None while a shard is missing."""
        shards = ScoreShards(self.root, column)
        pieces = self.pieces(column)
        parts = [part for piece in pieces if (part := shards.read(piece)) is not None]
        if len(parts) < len(pieces):
            return None
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def compute_scores(
    work: ScoringJob, columns: Sequence[ScorerRun], report: Report, share: tuple[int, int] = (0, 1)
) -> None:
    """Compute every shard of ``columns`` that is missing, decoding each image once for all of them.

    Models that do not fit into memory together get a pass for each group that does; so do columns of another batch
    size, since their shards hold other images.

    Args:
        work: what is to be scored.
        columns: different ones.
        report: called after every batch with the requests passed over, of those of all passes.
        share: (i, n): this process is number i of n that do the same.

    Raises:
        UserError: missing or damaged weights, or an image that does not decode.
    """
    sizes = sorted({column.batch_size for column in columns})
    by_size = [[column for column in columns if column.batch_size == size] for size in sizes]
    groups = [group for of_size in by_size for group in group_by_memory(of_size, work.device)]
    for place, group in enumerate(groups):
        _Pass(work, group, (place * len(work.requests), len(groups) * len(work.requests)), report).run(share)


def ensure_scores(work: ScoringJob, columns: Sequence[ScorerRun], report: Report) -> list[NDArray[np.float32]]:
    """The scores of all requests by column, [M] each, or embeddings [M, D]; those that are missing are computed first.

    Raises:
        UserError: as :func:`compute_scores`; or shards vanish as soon as they are written.
    """
    for _ in range(_TRIES):
        compute_scores(work, columns, report)
        scores = [of_column for column in columns if (of_column := work.scores(column)) is not None]
        if len(scores) == len(columns):
            return scores
    raise UserError(f"{work.root}: shards of scores vanish as soon as they are written; is the disk full?")


class _Pass:
    """One pass over the images for some columns."""

    def __init__(
        self, work: ScoringJob, columns: Sequence[ScorerRun], progress: tuple[int, int], report: Report
    ) -> None:
        self._work, self._report = work, report
        self._shards = [ScoreShards(work.root, column) for column in columns]
        self._size = columns[0].batch_size
        self._scorers: dict[tuple[str, str], Scorer] = {}
        self._lacking: dict[int, tuple[Piece, list[ScoreShards]]] = {}
        self._done, self._total = progress

    def run(self, share: tuple[int, int]) -> None:
        # Page-locked memory lets the copy to a GPU overlap with its work.
        pin = self._work.device.startswith("cuda")
        preprocesses = [shards.column.preprocess for shards in self._shards]
        work = self._work
        loading = prefetch(work.images, work.requests, self._batches(share), preprocesses, work.workers, pin)
        parts: list[list[NDArray[np.float32]]] = []
        with closing(loading):  # type: ignore[type-var]
            for loaded in loading:
                if loaded.first in self._lacking:  # the first batch of a piece
                    piece, lacking = self._lacking.pop(loaded.first)
                    parts = [[] for _ in lacking]
                for shards, scores in zip(lacking, parts, strict=True):
                    scores.append(self._scores(shards.column, loaded))
                if loaded.last == piece[1]:
                    self._write(piece, lacking, parts)
                self._passed(loaded.last - loaded.first)

    def _batches(self, share: tuple[int, int]) -> Iterator[Piece]:
        """The batches of the pieces that some column lacks; whether it does is looked up when their turn comes."""
        number, count = share
        pieces = self._work.pieces(self._shards[0].column)
        own = pieces[number::count]
        others = [piece for place, piece in enumerate(pieces) if place % count != number]
        for piece in [*own, *reversed(others)]:
            # Another process may have written it meanwhile, or this pass may have been interrupted after it.
            lacking = [shards for shards in self._shards if shards.read(piece) is None]
            if not lacking:
                self._passed(piece[1] - piece[0])
                continue
            self._lacking[piece[0]] = piece, lacking
            for first in range(*piece, self._size):
                yield first, min(first + self._size, piece[1])

    def _scores(self, column: ScorerRun, loaded: Loaded) -> NDArray[np.float32]:
        scorer = self._scorer(column)
        pixels = loaded.on(self._work.device, column.preprocess)
        with computing(column.precision, self._work.device):
            return column.values(scorer, pixels, self._work.requests.captions_of(loaded.first, loaded.last))

    def _scorer(self, column: ScorerRun) -> Scorer:
        """The model of a column, opened when it is first needed; columns that differ in precision share it."""
        place = column.name, column.weights
        if place not in self._scorers:
            self._scorers[place] = open_reward(*place, self._work.device)
        return self._scorers[place]

    def _write(self, piece: Piece, lacking: list[ScoreShards], parts: list[list[NDArray[np.float32]]]) -> None:
        for shards, scores in zip(lacking, parts, strict=True):
            shards.write(piece, np.concatenate(scores))

    def _passed(self, count: int) -> None:
        self._done += count
        self._report(self._done, self._total, "images")
