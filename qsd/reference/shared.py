"""Reference errors for a training: found in the store, or computed in full batches and added to it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qsd.reference.store import ErrorStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from qsd.training.offpolicy.batches import PairBatch

_LOCK_SECONDS = 600.0
"""A process that has waited so long for another one's errors computes them itself."""


@dataclass(frozen=True)
class FingerprintedBatch:
    """A batch on the CPU and the names of its pairs (``identity.names``)."""

    batch: PairBatch
    names: npt.NDArray[np.uint64]


class SharedErrors:
    """The errors of the pairs of some batches, each computed at most once in a folder's life.

    Args:
        folder: of the circumstances (``identity.folder_name``).
        compute: reference errors (winner, loser), [B, 2], of a batch of any B pairs.
        lane: processes of one run are in different lanes, as they need different pairs and shall not wait for another.

    Attributes:
        found: pairs whose errors were there.
        computed: pairs whose errors were not.
    """

    def __init__(self, folder: Path, compute: Callable[[PairBatch], npt.NDArray[np.float32]], lane: str = "0") -> None:
        self._store = ErrorStore(folder)
        self._compute = compute
        self._lock = folder / f"lane-{lane}.lock"
        self.found = 0
        self.computed = 0

    @property
    def damaged(self) -> int:
        """Damaged files that were removed."""
        return self._store.damaged

    def of(self, batches: Sequence[FingerprintedBatch]) -> list[npt.NDArray[np.float32]]:
        """The errors of each batch, [B, 2] in order (winner, loser).

        What is missing is computed in batches of the same size as those it comes from, filled up with pairs that come
        twice: at one size a pair's error does not depend on its neighbours.
        """
        names = np.concatenate([item.names for item in batches])
        found, errors = self._store.find(names)
        if not found.all():
            with self._alone():
                self._store.refresh()
                found, errors = self._store.find(names)
                if not found.all():
                    self._fill(batches, found, errors)
        self.found += int(found.sum())
        self.computed += int((~found).sum())
        edges = np.cumsum([len(item.names) for item in batches])[:-1]
        return list(np.split(errors, edges))

    def _fill(
        self, batches: Sequence[FingerprintedBatch], found: npt.NDArray[np.bool_], errors: npt.NDArray[np.float32]
    ) -> None:
        """Compute what was not found, into ``errors`` and the store."""
        sizes = [len(item.names) for item in batches]
        of_batch = np.repeat(np.arange(len(batches)), sizes)
        of_place = np.concatenate([np.arange(size) for size in sizes])
        names = np.concatenate([item.names for item in batches])
        for size in sorted(set(sizes)):
            missing = np.flatnonzero(~found & (np.repeat(sizes, sizes) == size))
            for start in range(0, len(missing), size):
                rows = missing[start : start + size]
                filled = np.resize(rows, size)
                chosen = [(batches[of_batch[row]].batch, int(of_place[row])) for row in filled]
                errors[rows] = self._compute(_joined(chosen))[: len(rows)]
        self._store.add(names[~found], errors[~found])

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other process of this lane computes; where files cannot be locked, work may be done twice."""
        from filelock import FileLock, Timeout

        lock = FileLock(self._lock)
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
        except (Timeout, NotImplementedError, OSError):
            yield
            return
        try:
            yield
        finally:
            lock.release()


def _joined(chosen: Sequence[tuple[PairBatch, int]]) -> PairBatch:
    """A batch of some pairs of other batches."""
    import torch

    def rows(get: Callable[[PairBatch], Tensor]) -> Tensor:
        winners = [get(batch)[place] for batch, place in chosen]
        losers = [get(batch)[place + len(batch.pair_ids)] for batch, place in chosen]
        return torch.stack(winners + losers)

    first = chosen[0][0]
    return replace(
        first,
        pair_ids=[batch.pair_ids[place] for batch, place in chosen],
        latents=rows(lambda batch: batch.latents),
        noise=rows(lambda batch: batch.noise),
        timesteps=rows(lambda batch: batch.timesteps),
        conditioning={field: rows(partial(_of_field, field)) for field in first.conditioning},
        weights=torch.stack([batch.weights[place] for batch, place in chosen]),
    )


def _of_field(field: str, batch: PairBatch) -> Tensor:
    return batch.conditioning[field]
