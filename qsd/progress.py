"""Progress of long work with its rate: a bar on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_DRAWS = 0.1


class ShownProgress:
    """A ``qsd.runtime.Report`` that prints progress to stderr; use it as a context manager."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._shown = time.monotonic()
        self._printed: tuple[int, int, str] | None = None
        self._first: tuple[float, int, str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int, unit: str) -> None:
        """Show ``done`` of ``total``; cheap, because most calls only read the clock."""
        now, finished = time.monotonic(), done >= total
        rate = self._rate(now, done, unit)
        terminal = sys.stderr.isatty()
        pause = _SECONDS_BETWEEN_DRAWS if terminal else _SECONDS_BETWEEN_LINES
        if now - self._shown < pause and not finished:
            return
        self._shown = now
        if terminal:
            self._draw(done, total, f"{unit}{rate}")
        elif self._printed != (done, total, unit):
            self._printed = (done, total, unit)
            print(f"{self._name}: {done:,} of {total:,} {unit}{rate}", file=sys.stderr, flush=True)

    def _rate(self, now: float, done: int, unit: str) -> str:
        """``, 35/s`` since the first call for this unit, which may have counted the work of an earlier run."""
        if self._first is None or self._first[2] != unit or done < self._first[1]:
            self._first = now, done, unit
        since, earlier, _ = self._first
        return f", {(done - earlier) / (now - since):,.3g}/s" if done > earlier and now > since else ""

    def _draw(self, done: int, total: int, unit: str) -> None:
        if self._bar is None:
            self._bar = _new_bar()
            self._task = self._bar.add_task(self._name, total=total, unit=unit)
            self._bar.start()
        assert self._task is not None
        self._bar.update(self._task, completed=done, total=total, unit=unit)


def _new_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))
