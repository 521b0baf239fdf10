"""What a run shows: a live board on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from ablations.store.states import seconds_left

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress, TaskID

    from ablations.store.owner import Owner

Reports = Mapping[str, Mapping[str, Any] | None]
_PLAIN_EVERY_S = 15.0


class Display(Protocol):
    """Told what happens during a run; stages are named by key, and by a label for people."""

    def begin(self, total: int, done: int) -> None:
        """A run of ``total`` stages begins; ``done`` of them are there already."""

    def started(self, key: str, label: str) -> None:
        """A stage's attempt was started."""

    def finished(self, key: str, label: str) -> None:
        """A stage is done, here or by another launcher."""

    def helped(self, key: str, label: str, problem: str | None) -> None:
        """Work done ahead of stages has ended; it is no stage and counts as none. ``problem``: why it failed."""

    def failed(self, key: str, label: str, reason: str, log: Path | None, blocked: int) -> None:
        """A stage failed; ``blocked`` others will not run."""

    def diverged(self, key: str, label: str, reason: str, blocked: int) -> None:
        """A training diverged, which is a result; ``blocked`` others will not run."""

    def stopped(self, key: str) -> None:
        """An attempt ended without result."""

    def elsewhere(self, label: str, owner: Owner, claim: Path) -> None:
        """Another process works on the stage."""

    def stopping(self, running: int) -> None:
        """The run was asked to end."""

    def progress(self, reports: Reports) -> None:
        """The latest reports of the running stages; called several times per second."""


def clock(seconds: float) -> str:
    """``8 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def describe(report: Mapping[str, Any]) -> str:
    """``30/60 steps, 2.1 per second, 14 s left``."""
    text = f"{report['done']:,}/{report['total']:,} {report['unit']}"
    if report["per_second"] > 0:
        text += f", {report['per_second']:.3g} per second"
    left = seconds_left(report)
    return text if left is None else f"{text}, {clock(left)} left"


class _Messages(ABC):
    """The sentences that both displays say."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._since: dict[str, float] = {}
        self._labels: dict[str, str] = {}

    @abstractmethod
    def say(self, line: str) -> None:
        """Show one line now, and keep it."""

    def started(self, key: str, label: str) -> None:
        """Note the time."""
        self._since[key], self._labels[key] = time.monotonic(), label

    def took(self, key: str) -> str:
        """``in 8 s``, or that another launcher did it."""
        since = self._since.pop(key, None)
        return "by another launcher" if since is None else f"in {clock(time.monotonic() - since)}"

    def failed(self, key: str, label: str, reason: str, log: Path | None, blocked: int) -> None:
        """Say why, and what it costs."""
        self._since.pop(key, None)
        where = f"\n    log: {log}" if log else ""
        self.say(f"failed: {label}: {reason}{_cost(blocked)}{where}")

    def diverged(self, key: str, label: str, reason: str, blocked: int) -> None:
        """Say where, and what will not run."""
        self.say(f"diverged: {label}: {reason}{_cost(blocked)}")
        self.stopped(key)

    def helped(self, key: str, label: str, problem: str | None) -> None:
        """Say how long it took, or what went wrong."""
        if problem is None:
            self.say(f"done  {label} {self.took(key)}")
        else:
            self.say(f"failed: {label}: {problem}; the stages do what is missing themselves")
        self.stopped(key)

    def stopped(self, key: str) -> None:
        """Forget the attempt."""
        self._since.pop(key, None)

    def elsewhere(self, label: str, owner: Owner, claim: Path) -> None:
        """Say who works on it."""
        self.say(f"waiting: {label} is run by {owner} (if that is surely gone, remove {claim})")

    def stopping(self, running: int) -> None:
        """Say that the run ends."""
        self.say(f"stopping {running} running stage{'s' * (running != 1)}; the same command continues from here")


def _cost(blocked: int) -> str:
    """What a stage without a result costs, as the end of a sentence."""
    return f"; {blocked} stage{'s' * (blocked != 1)} that need it will not run" if blocked else ""


class Lines(_Messages):
    """Plain lines, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._total = self._done = 0
        self._shown = time.monotonic()

    def say(self, line: str) -> None:
        """Write one line now."""
        print(line, file=self._stream, flush=True)

    def begin(self, total: int, done: int) -> None:
        """Remember the totals and show them."""
        self._total, self._done = total, done
        self.say(f"{total} stages, {done} done, {total - done} to run")

    def started(self, key: str, label: str) -> None:
        """Show the stage."""
        super().started(key, label)
        self.say(f"[{self._done}/{self._total}] start {label}")

    def finished(self, key: str, label: str) -> None:
        """Count the stage and show how long it took."""
        self._done += 1
        self.say(f"[{self._done}/{self._total}] done  {label} {self.took(key)}")

    def progress(self, reports: Reports) -> None:
        """Show the reports, but not often."""
        if time.monotonic() - self._shown < _PLAIN_EVERY_S:
            return
        self._shown = time.monotonic()
        for key, report in reports.items():
            if report is not None and key in self._since:
                self.say(f"[{self._done}/{self._total}] {self._labels[key]}: {describe(report)}")


class Board(_Messages):
    """A live board: one bar for the whole run, one line per running stage."""

    def __init__(self) -> None:
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
        self._total = self._done = self._before = 0

    def say(self, line: str) -> None:
        """Print above the board."""
        self._progress.console.print(line, markup=False, highlight=False)

    def __enter__(self) -> Board:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    def begin(self, total: int, done: int) -> None:
        """Remember the totals and show them."""
        self._total, self._done, self._before = total, done, done
        self._overall = self._progress.add_task("all stages", total=total, completed=done, note=f"{done}/{total}")

    def started(self, key: str, label: str) -> None:
        """Show the stage."""
        super().started(key, label)
        self._tasks[key] = self._progress.add_task(label, total=None, note="starting")

    def finished(self, key: str, label: str) -> None:
        """Count the stage and show how long it took."""
        self._done += 1
        self._remove(key)
        self.say(f"done  {label} {self.took(key)}")

    def failed(self, key: str, label: str, reason: str, log: Path | None, blocked: int) -> None:
        """Say why, and take the stage off the board."""
        super().failed(key, label, reason, log, blocked)
        self._remove(key)

    def stopped(self, key: str) -> None:
        """Take the stage off the board."""
        super().stopped(key)
        self._remove(key)

    def progress(self, reports: Reports) -> None:
        """Move the bars."""
        share = 0.0
        for key, report in reports.items():
            if report is not None and key in self._tasks:
                share += report["done"] / max(report["total"], 1)
                self._progress.update(
                    self._tasks[key], total=report["total"], completed=report["done"], note=describe(report)
                )
        if self._overall is not None:
            done = self._done + share
            self._progress.update(self._overall, completed=done, note=self._outlook(done))

    def _remove(self, key: str) -> None:
        task = self._tasks.pop(key, None)
        if task is not None:
            self._progress.remove_task(task)

    def _outlook(self, done: float) -> str:
        """Stages done, rate and time left, judged by this run's own pace."""
        text = f"{self._done}/{self._total}"
        elapsed = time.monotonic() - self._begin
        fresh = done - self._before
        if fresh <= 0 or elapsed < 1:
            return text
        return (
            f"{text}, {60 * fresh / elapsed:.1f} per minute, about {clock((self._total - done) * elapsed / fresh)} left"
        )


def on_terminal() -> bool:
    """True if a person watches."""
    return sys.stdout.isatty()
