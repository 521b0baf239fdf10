"""Rows of numbers about a training, a line of JSON each, in a file that goes on where a checkpoint left it."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_LOWER = "training.learning_rate"


class NonFiniteLossError(UserError):
    """Training diverged: a loss or gradient norm is infinite or not a number. ``step`` is where.

    Args:
        step: counted from 0.
        name: of the number.
        value: what it is.
        lower: the settings that may mend it when they are lowered.
    """

    def __init__(self, step: int, name: str, value: float, lower: str = _LOWER) -> None:
        super().__init__(f"training diverged: {name} is {value} at step {step}; lower {lower}")
        self.step = step


class JsonlLog:
    """Appends rows.

    Args:
        path: the file; what follows ``length`` bytes (written after the checkpoint one continues from) is cut off. None
            writes nothing, but fails where another process's log does.
        length: its length at that checkpoint, 0 for a new run.
        lower: for the message of a training that diverged: the settings to lower.
    """

    def __init__(self, path: Path | None, length: int, lower: str = _LOWER) -> None:
        self._file = path.open("ab") if path else None
        if self._file:
            self._file.truncate(length)
        self._lower = lower

    def add(self, row: Mapping[str, float], finite: Iterable[str] = ()) -> dict[str, float | None]:
        """Append a row and return it as it is written: null for what is not a finite number.

        Args:
            row: numbers by name.
            finite: names of those that must be finite; a row with any has ``step``.

        Raises:
            NonFiniteLossError: one of them is not; the rows before are in the file.
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
        """The file's length in bytes, all rows written; 0 where there is no file."""
        if not self._file:
            return 0
        self._file.flush()
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
