"""Rows of numbers about a training, one line of JSON each, in a file that continues where a checkpoint left it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from qsd.errors import UserError

_LOWER = "training.learning_rate"


class NonFiniteLossError(UserError):
    """Training diverged: a loss or gradient norm is infinite or not a number. ``step`` is where.

    Args:
        step: counted from 0.
        name: the column.
        value: its value.
        lower: the settings that may help when they are lowered.
    """

    def __init__(self, step: int, name: str, value: float, lower: str = _LOWER) -> None:
        super().__init__(f"training diverged: {name} is {value} at step {step}; lower {lower}")
        self.step = step


class JsonlLog:
    """Appends rows to a file.

    Args:
        path: the file. None writes nothing; such a log still raises where the main process's log does.
        length: bytes of the file at the checkpoint that the training continues from, 0 for a new one; what was written
            after that checkpoint is cut off.
        lower: the settings to lower, for the message of a training that diverged.
    """

    def __init__(self, path: Path | None, length: int, lower: str = _LOWER) -> None:
        self._file = path.open("ab") if path else None
        if self._file:
            self._file.truncate(length)
        self._lower = lower

    def add(self, row: Mapping[str, float], finite: Iterable[str] = ()) -> dict[str, float | None]:
        """Append a row and return it as it is written: null in place of an infinity or NaN.

        Args:
            row: numbers by name.
            finite: the names that must hold finite numbers; a row with any has ``step``.

        Raises:
            NonFiniteLossError: one of them does not; the rows before are in the file.
        """
        for name in finite:
            if not math.isfinite(row[name]):
                self.flush()
                raise NonFiniteLossError(int(row["step"]), name, row[name], self._lower)
        written = {name: value if math.isfinite(value) else None for name, value in row.items()}
        if self._file:
            self._file.write(json.dumps(written).encode() + b"\n")
        return written

    def flush(self) -> int:
        """Hand all rows to the file and return its length in bytes; 0 where there is no file."""
        if not self._file:
            return 0
        self._file.flush()
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
