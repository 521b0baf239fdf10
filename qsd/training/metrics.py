"""The files of numbers that a training writes, and the log of its steps; a method says which columns a row has.

Rows of ``metrics.jsonl`` and ``validation.jsonl`` are free of times and places, so equal runs give equal bytes. This
module is read by what shows trainings, too, so it imports nothing heavy.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsd.training.jsonl_log import JsonlLog

if TYPE_CHECKING:
    from torch import Tensor

FILE = "metrics.jsonl"
VALIDATION = "validation.jsonl"
RATES = "rates.jsonl"
"""In the folder of an attempt, since artefacts hold no times."""
FLUSH_STEPS = 10
"""Steps between two waits for the device."""
RECENT = 20
"""Rows over which the log of the attempt averages."""
GRAD_NORM = "grad_norm"


class MetricsLog:
    """``metrics.jsonl``: a row per step. Rows wait on the device and are written every few steps.

    A row is ``step``, the columns of the method, ``grad_norm``, ``learning_rate``, and what the method measured after
    the update of this step, if anything.

    Args:
        path: the file, or None, as of :class:`JsonlLog`; so is ``length``.
        length: bytes of the file at the checkpoint that the training continues from.
        columns: the names of a step's values.
        finite: the columns that must be finite.
        lower: the settings to lower, for the message of a training that diverged.

    Attributes:
        recent: the newest rows that were written, at most ``RECENT``.
    """

    def __init__(
        self, path: Path | None, length: int, columns: Sequence[str], finite: Iterable[str], lower: str
    ) -> None:
        self._rows = JsonlLog(path, length, lower)
        self._columns = (*columns, GRAD_NORM)
        self._finite = tuple(finite)
        self._waiting: list[tuple[int, Tensor, Tensor, dict[str, float]]] = []
        self.recent: deque[dict[str, Any]] = deque(maxlen=RECENT)

    def add(
        self, step: int, values: Tensor, grad_norm: Tensor, learning_rate: float, further: Mapping[str, float]
    ) -> bool:
        """The row of one step.

        Args:
            step: counted from 0.
            values: of the columns, [C], on any device.
            grad_norm: global norm of the gradient before clipping, a scalar on the device.
            learning_rate: of this step.
            further: columns that only this row has.

        Returns:
            True when the rows so far were written, for which the device was waited for.

        Raises:
            NonFiniteLossError: as ``flush``.
        """
        self._waiting.append((step, values, grad_norm, {"learning_rate": learning_rate, **further}))
        if len(self._waiting) < FLUSH_STEPS:
            return False
        self.flush()
        return True

    def flush(self) -> int:
        """Write the waiting rows and return the file's length in bytes.

        Raises:
            NonFiniteLossError: at the first row with a number that must be finite and is not.
        """
        for step, values, grad_norm, further in self._waiting:
            numbers = dict(zip(self._columns, [*values.tolist(), grad_norm.item()], strict=True))
            row = {"step": step, **numbers, **further}
            self.recent.append(self._rows.add(row, finite=self._finite))
        self._waiting.clear()
        return self._rows.flush()

    def close(self) -> None:
        """Write what waits and close the file."""
        self.flush()
        self._rows.close()


def mean_of(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> dict[str, Any]:
    """The mean of each named column over those of N ≥ 1 rows that have a number; None where no row has one."""
    means: dict[str, Any] = {}
    for name in names:
        values = [row[name] for row in rows if row[name] is not None]
        means[name] = sum(values) / len(values) if values else None
    return means


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All rows of a train artefact."""
    return _read(folder / FILE)


def read_validation(folder: Path) -> list[dict[str, Any]]:
    """All rows of a train artefact's validation; none when it was not asked for."""
    path = folder / VALIDATION
    return _read(path) if path.is_file() else []


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
