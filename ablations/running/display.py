"""The output of a run: live progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from ablations.formatting import format_count, format_duration
from ablations.store.states import seconds_left

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress, TaskID

    from ablations.store.owner import Owner

Reports = Mapping[str, Mapping[str, Any] | None]
_PLAIN_EVERY_S = 15.0
STARTING = "starting: importing the libraries, opening its files"
"""Shown until a stage reports its first progress, which takes seconds, or minutes for large weights."""


class Display(Protocol):
    """Receives the events of a run; stages are given by key, and by a label for people."""

    def begin(self, total: int, done: int) -> None:
        """A run of ``total`` stages begins; ``done`` of them were done before."""

    def started(self, key: str, label: str) -> None:
        """A stage's attempt was started."""

    def finished(self, key: str, label: str) -> None:
        """A stage is done, by this or by another launcher."""

    def helped(self, key: str, label: str, problem: str | None) -> None:
        """A precompute job has ended; it does not count as a stage. ``problem``: why it failed, or None."""

    def failed(self, key: str, label: str, reason: str, log: Path | None, blocked: int) -> None:
        """A stage failed; ``blocked`` stages that need it will not run."""

    def diverged(self, key: str, label: str, reason: str, blocked: int) -> None:
        """A training diverged, which is a result; ``blocked`` stages that need it will not run."""

    def stopped(self, key: str) -> None:
        """An attempt ended without a result."""

    def elsewhere(self, label: str, owner: Owner, claim: Path) -> None:
        """Another process is working on the stage."""

    def stopping(self, running: int) -> None:
        """The run was asked to stop."""

    def progress(self, reports: Reports) -> None:
        """The latest reports of the running stages; called several times per second."""


class TimeLeft(Protocol):
    """Follows a run and says how long it still takes (``ablations.cost.outlook``); ``now`` is of one clock."""

    def started(self, key: str, now: float) -> None:
        """A stage's attempt was started."""

    def finished(self, key: str, now: float) -> None:
        """A stage is done."""

    def failed(self, key: str) -> None:
        """A stage failed or diverged, so what needs it will not run."""

    def stopped(self, key: str) -> None:
        """An attempt ended without a result."""

    def seconds_left(self, reports: Reports, now: float) -> float:
        """Seconds until the last stage ends."""


def describe(report: Mapping[str, Any]) -> str:
    """A progress report as text: ``30/60 steps, 2.1 per second, 14 s left``."""
    text = f"{report['done']:,}/{report['total']:,} {report['unit']}"
    if report["per_second"] > 0:
        text += f", {report['per_second']:.3g} per second"
    remaining = seconds_left(report)
    return text if remaining is None else f"{text}, {format_duration(remaining)} left"


class _Messages(ABC):
    """The messages that both displays share."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._since: dict[str, float] = {}
        self._labels: dict[str, str] = {}

    @abstractmethod
    def say(self, line: str) -> None:
        """Print one line that stays visible."""

    def started(self, key: str, label: str) -> None:
        """Record the start time."""
        self._since[key], self._labels[key] = time.monotonic(), label

    def took(self, key: str) -> str:
        """How long a stage took, ``in 8 s``, or ``by another launcher``."""
        since = self._since.pop(key, None)
        return "by another launcher" if since is None else f"in {format_duration(time.monotonic() - since)}"

    def failed(self, key: str, label: str, reason: str, log: Path | None, blocked: int) -> None:
        """Print the reason, and how many stages are blocked."""
        self._since.pop(key, None)
        where = f"\n    log: {log}" if log else ""
        self.say(f"failed: {label}: {reason}{_cost(blocked)}{where}")

    def diverged(self, key: str, label: str, reason: str, blocked: int) -> None:
        """Print the reason, and how many stages are blocked."""
        self.say(f"diverged: {label}: {reason}{_cost(blocked)}")
        self.stopped(key)

    def helped(self, key: str, label: str, problem: str | None) -> None:
        """Print how long the job took, or why it failed."""
        if problem is None:
            self.say(f"done  {label} {self.took(key)}")
        else:
            self.say(f"failed: {label}: {problem}; the stages compute what is missing themselves")
        self.stopped(key)

    def stopped(self, key: str) -> None:
        """Forget the attempt."""
        self._since.pop(key, None)

    def elsewhere(self, label: str, owner: Owner, claim: Path) -> None:
        """Print which process works on the stage."""
        # Only the user can know that a process on another host has ended: nothing on this host can prove it.
        self.say(f"waiting: {label} is run by {owner} (if that process has certainly ended, remove {claim})")

    def stopping(self, running: int) -> None:
        """Print that the run is being stopped."""
        self.say(f"stopping {format_count(running, 'running stage')}; the same command continues from here")


def _cost(blocked: int) -> str:
    """The number of blocked stages, as the end of a sentence."""
    return f"; {format_count(blocked, 'stage that needs', 'stages that need')} it will not run" if blocked else ""


class Lines(_Messages):
    """Plain lines, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._unreadable = False
        self._total = self._done = 0
        self._shown = time.monotonic()
        self._reached: dict[str, tuple[int, str]] = {}

    def say(self, line: str) -> None:
        """Write one line now; a run continues where its lines can no longer be read."""
        try:
            print(line, file=self._stream, flush=True)
        except OSError as error:  # a closed pipe or terminal, a full disk
            if not self._unreadable:
                self._unreadable = True
                with suppress(OSError):
                    note = f"note: output cannot be written ({error.strerror}); the run continues, see 'ablate status'"
                    print(note, file=sys.stderr, flush=True)

    def begin(self, total: int, done: int) -> None:
        """Remember the totals and show them."""
        self._total, self._done = total, done
        soon = "; importing the libraries first, which takes some seconds" if total > done else ""
        self.say(f"{format_count(total, 'stage')}, {done} done, {total - done} to run{soon}")

    def started(self, key: str, label: str) -> None:
        """Show the stage."""
        super().started(key, label)
        self.say(f"[{self._done}/{self._total}] start {label}")

    def finished(self, key: str, label: str) -> None:
        """Count the stage and show how long it took."""
        self._done += 1
        self.say(f"[{self._done}/{self._total}] done  {label} {self.took(key)}")

    def progress(self, reports: Reports) -> None:
        """Show the reports that are further than when last shown, at most once in ``_PLAIN_EVERY_S`` seconds."""
        if time.monotonic() - self._shown < _PLAIN_EVERY_S:
            return
        self._shown = time.monotonic()
        for key, report in reports.items():
            if report is None or key not in self._since:
                continue
            reached = (report["done"], report["unit"])
            if self._reached.get(key) != reached:
                self._reached[key] = reached
                self.say(f"[{self._done}/{self._total}] {self._labels[key]}: {describe(report)}")


class Board(_Messages):
    """Live progress bars: one for the whole run, and one line per running stage.

    Args:
        time_left: of the whole run; without it none is shown.
    """

    def __init__(self, time_left: TimeLeft | None = None) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        super().__init__()
        self._progress: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        self._tasks: dict[str, TaskID] = {}
        self._overall: TaskID | None = None
        self._total = self._done = 0
        self._time_left = time_left

    def say(self, line: str) -> None:
        """Print a line above the bars, as long as there is a terminal."""
        with suppress(OSError):
            self._progress.console.print(line, markup=False, highlight=False)

    def __enter__(self) -> Board:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        with suppress(OSError):
            self._progress.stop()

    def begin(self, total: int, done: int) -> None:
        """Remember the totals and show them."""
        self._total, self._done = total, done
        self._overall = self._progress.add_task("all stages", total=total, completed=done, note=f"{done}/{total}")

    def started(self, key: str, label: str) -> None:
        """Show the stage."""
        super().started(key, label)
        self._tasks[key] = self._progress.add_task(label, total=None, note=STARTING)
        if self._time_left:
            self._time_left.started(key, time.monotonic())

    def finished(self, key: str, label: str) -> None:
        """Count the stage and show how long it took."""
        self._done += 1
        self._remove(key)
        self.say(f"done  {label} {self.took(key)}")
        if self._time_left:
            self._time_left.finished(key, time.monotonic())

    def failed(self, key: str, label: str, reason: str, log: Path | None, blocked: int) -> None:
        """Print the reason, and remove the stage's line."""
        super().failed(key, label, reason, log, blocked)
        self._remove(key)
        if self._time_left:
            self._time_left.failed(key)

    def diverged(self, key: str, label: str, reason: str, blocked: int) -> None:
        """Print the reason, and remove the stage's line."""
        super().diverged(key, label, reason, blocked)
        if self._time_left:
            self._time_left.failed(key)

    def stopped(self, key: str) -> None:
        """Remove the stage's line."""
        super().stopped(key)
        self._remove(key)
        if self._time_left:
            self._time_left.stopped(key)

    def progress(self, reports: Reports) -> None:
        """Update the bars."""
        share = 0.0
        for key, report in reports.items():
            if report is not None and key in self._tasks:
                share += report["done"] / max(report["total"], 1)
                self._progress.update(
                    self._tasks[key], total=report["total"], completed=report["done"], note=describe(report)
                )
        if self._overall is not None:
            self._progress.update(self._overall, completed=self._done + share, note=self._outlook(reports))

    def _remove(self, key: str) -> None:
        task = self._tasks.pop(key, None)
        if task is not None:
            self._progress.remove_task(task)

    def _outlook(self, reports: Reports) -> str:
        """Stages done, and the time left of the run."""
        text = f"{self._done}/{self._total}"
        if self._time_left is None:
            return text
        return f"{text}, about {format_duration(self._time_left.seconds_left(reports, time.monotonic()))} left"


def on_terminal() -> bool:
    """True if the output goes to a terminal."""
    return sys.stdout.isatty()
