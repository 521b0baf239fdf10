"""How far a stage is, as a file that others read while it runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ablations.files import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from ablations.running.stopping import Stop

_REPORT_EVERY_S = 1.0


class ProgressFile:
    """A stage's report, written at most once per second; it ends a stage that was asked to stop.

    Args:
        path: the file.
        stop: checked after every report.
    """

    def __init__(self, path: Path, stop: Stop) -> None:
        self._path = path
        self._stop = stop
        self._begin = time.monotonic()
        self._written = float("-inf")
        self._first: tuple[int, float] | None = None
        self._latest: dict[str, Any] = {}

    def __call__(self, done: int, total: int, unit: str) -> None:
        """``done`` of ``total``; the first call says where a resumed stage began, so the rate is this attempt's."""
        now = time.monotonic()
        seconds = now - self._begin
        if self._first is None or unit != self._latest["unit"]:
            self._first = (done, seconds)
        first_done, first_seconds = self._first
        rate = (done - first_done) / (seconds - first_seconds) if seconds > first_seconds else 0.0
        self._latest = {"done": done, "total": total, "unit": unit, "seconds": seconds, "per_second": rate}
        if now - self._written >= _REPORT_EVERY_S:
            self.flush()
            self._written = now
        self._stop.check()

    def reached(self) -> dict[str, Any] | None:
        """{"done", "total", "unit"} of the latest report; None before the first."""
        return {name: self._latest[name] for name in ("done", "total", "unit")} if self._latest else None

    def flush(self) -> None:
        """Write the latest report now."""
        if self._latest:
            write_json(self._path, self._latest)
