"""Reference errors for a training: found in the store, or computed in full batches and added to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from qsd.reference.store import ErrorStore

_LOCK_SECONDS = 600.0
"""A process that has waited so long for another one's errors computes them itself."""

B = TypeVar("B")
"""A batch of pairs; this module only passes it on."""


@dataclass(frozen=True)
class FingerprintedBatch(Generic[B]):
    """A batch of B pairs on the CPU, and their fingerprints (``identity.fingerprints``), [B, 2]."""

    batch: B
    fingerprints: npt.NDArray[np.uint64]


class SharedErrors(Generic[B]):
    """The errors of the pairs of some batches, each computed at most once in a folder's life.

    Args:
        folder: of the environment (``identity.folder_name``).
        compute: reference errors (winner, loser), [B, 2] on any device, of a batch of any B pairs.
        gather: (batch, place in it) of some pairs -> a batch of these pairs.
        lane: processes of one run are in different lanes, as they need different pairs and must not wait for another.

    Attributes:
        found: pairs whose errors were in the store.
        computed: pairs whose errors were not.
    """

    def __init__(
        self,
        folder: Path,
        compute: Callable[[B], Tensor],
        gather: Callable[[Sequence[tuple[B, int]]], B],
        lane: str = "0",
    ) -> None:
        self._store = ErrorStore(folder)
        self._compute = compute
        self._gather = gather
        self._lock = folder / f"lane-{lane}.lock"
        self.found = 0
        self.computed = 0

    @property
    def damaged(self) -> int:
        """Damaged files that were removed."""
        return self._store.damaged

    def of(self, batches: Sequence[FingerprintedBatch[B]]) -> list[npt.NDArray[np.float32]]:
        """The errors of each batch, [B, 2] in order (winner, loser).

        What is missing is computed in batches of the same size as those it comes from, filled up with pairs that come
        twice: at one size a pair's error does not depend on its neighbours.
        """
        fingerprints = np.concatenate([item.fingerprints for item in batches])
        stored, errors = self._store.find(fingerprints)
        if not stored.all():
            with self._locked():
                # Another process of this lane may have added them while this one waited for the lock.
                self._store.refresh()
                stored, errors = self._store.find(fingerprints)
                if not stored.all():
                    self._fill(batches, stored, errors)
        self.found += int(stored.sum())
        self.computed += int((~stored).sum())
        edges = np.cumsum([len(item.fingerprints) for item in batches])[:-1]
        return list(np.split(errors, edges))

    def _fill(
        self,
        batches: Sequence[FingerprintedBatch[B]],
        stored: npt.NDArray[np.bool_],
        errors: npt.NDArray[np.float32],
    ) -> None:
        """Compute what was not stored, into ``errors`` and the store."""
        sizes = [len(item.fingerprints) for item in batches]
        batch_of_row = np.repeat(np.arange(len(batches)), sizes)
        place_of_row = np.concatenate([np.arange(size) for size in sizes])
        fingerprints = np.concatenate([item.fingerprints for item in batches])
        computed: list[tuple[npt.NDArray[np.intp], Tensor]] = []
        for size in sorted(set(sizes)):
            missing = np.flatnonzero(~stored & (np.repeat(sizes, sizes) == size))
            for start in range(0, len(missing), size):
                rows = missing[start : start + size]
                repeated = np.resize(rows, size)
                pairs = [(batches[batch_of_row[row]].batch, int(place_of_row[row])) for row in repeated]
                computed.append((rows, self._compute(self._gather(pairs))[: len(rows)]))
        # Read back together: in between, the device would wait for the next batch to be gathered.
        errors[np.concatenate([rows for rows, _ in computed])] = torch.cat([item for _, item in computed]).cpu().numpy()
        self._store.add(fingerprints[~stored], errors[~stored])

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """While no other process of this lane computes; where files cannot be locked, work may be done twice."""
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
