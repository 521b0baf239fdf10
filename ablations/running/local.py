"""Run a plan on this machine: a bounded queue, one process per stage attempt."""

from __future__ import annotations

import shutil
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.running import attempt, precompute
from ablations.running.precompute import PRECOMPUTE
from ablations.running.processes import count_of
from ablations.running.schedule import Schedule
from ablations.running.signal_names import signal_name
from ablations.running.slots import environment, make_slots, take
from ablations.running.workers import EXIT_UNKNOWN, PRELOAD, Workers
from ablations.store import attempts, divergence
from ablations.store.jobs import QSD, Job, load_table
from ablations.store.launchers import announced
from ablations.store.states import progress
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence
    from types import FrameType

    from ablations.grid.keys import StageNode, StageTable
    from ablations.planning.plan import Plan
    from ablations.running.display import Display
    from ablations.running.slots import Slot
    from ablations.store.artefacts import Store

_POLL_S = 0.2
_OTHERS_S = 1.0
_PATIENCE_S = 20.0
_FULL_BYTES = 1_000_000
"""A disk with less can hold no record of why a stage failed."""


@dataclass(frozen=True)
class Failure:
    """A stage that failed, or whose training diverged, in this run.

    Attributes:
        label: what a person calls the stage.
        reason: one line.
        log: the attempt's log.
        blocked: how many stages wait for it in vain.
    """

    label: str
    reason: str
    log: Path | None
    blocked: int


@dataclass
class RunResult:
    """How a run ended.

    Attributes:
        ran: stages that are done now and were not before.
        failures: stages that failed.
        diverged: trainings that diverged; a result, not a failure.
        signal: the number of the signal that stopped the run, if one did.
    """

    ran: int = 0
    failures: list[Failure] = field(default_factory=list)
    diverged: list[Failure] = field(default_factory=list)
    signal: int | None = None


def run(
    plan: Plan,
    store: Store,
    display: Display,
    jobs: int | None = None,
    table: str = QSD,
    preload: Sequence[str] = PRELOAD,
    gpus: tuple[str, ...] = (),
    only: Container[str] | None = None,
    together: bool = True,
) -> RunResult:
    """Run every stage that is not done, but no training that diverged before, nor what waits for one.

    Args:
        plan: what to run.
        store: where results are kept.
        display: shows what happens.
        jobs: attempts at a time, at least 1; with ``gpus`` on each of them. ``slots.make_slots`` has the default.
        table: module with the stage table, for the attempts.
        preload: modules that attempts should find imported.
        gpus: GPUs to share out, as CUDA names them; without any, attempts see what this process sees.
        only: keys of the stages to run; all if not given. What they need is done or among them. A training that
            diverged and is named here is tried again.
        together: do the common work of stages beforehand (``ablations.running.precompute``); else each does its own.

    Returns:
        the failures and divergences, if any; stages that do not depend on them were run.

    Raises:
        UserError: a stage wants more processes than can share its work, or than there are GPUs.
    """
    # Before it is known what is done: nothing of it may be deleted from here on.
    with announced(store, plan.nodes, plan.name):
        return _run(plan, store, display, jobs, table, preload, gpus, only, together)


def _run(
    plan: Plan,
    store: Store,
    display: Display,
    jobs: int | None,
    table: str,
    preload: Sequence[str],
    gpus: tuple[str, ...],
    only: Container[str] | None,
    together: bool,
) -> RunResult:
    """As :func:`run`, once the launcher is announced."""
    done = {key for key, node in plan.nodes.items() if store.is_done(node.stage, key)}
    dropped = set() if only is not None else divergence.without_result(store, plan.nodes, done)
    nodes = {key: node for key, node in plan.nodes.items() if (only is None or key in only) and key not in dropped}
    left = {key: node for key, node in nodes.items() if key not in done}
    shared = precompute.groups(left, load_table(table), precompute.MOST) if together else []
    after = {member.key: [process.key for process in group.processes] for group in shared for member in group.members}
    schedule = Schedule(precompute.insert_before_members(nodes, shared), done, after)
    processes = _processes(left, load_table(table), gpus)
    display.begin(len(nodes), len(nodes) - len(left))
    if schedule.left == 0:
        return RunResult()
    threads = max(int(cell.values["threads"]) for cell in plan.cells)
    workers = Workers(preload, threads)
    try:
        with _stop_signals() as stopped:
            return _Loop(plan, store, display, make_slots(jobs, gpus), table, schedule, workers, processes).run(stopped)
    finally:
        workers.close()


def _processes(nodes: Mapping[str, StageNode], table: StageTable, gpus: tuple[str, ...]) -> dict[str, int]:
    """Key -> how many processes run a stage, of those that several run."""
    counts: dict[str, int] = {}
    for key, node in nodes.items():
        count = count_of(node.stage, node.values, table, None)
        if gpus and count > len(gpus):
            raise UserError(f"{node.stage} is to run in {count} processes, a GPU each, but --gpus names {len(gpus)}")
        if count > 1:
            counts[key] = count
    return counts


class _Loop:
    """The launcher's loop; one instance per run."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        display: Display,
        slots: list[Slot],
        table: str,
        schedule: Schedule,
        workers: Workers,
        processes: Mapping[str, int],
    ) -> None:
        self._plan, self._store, self._display = plan, store, display
        self._free, self._table = slots[::-1], table
        self._schedule, self._workers, self._processes = schedule, workers, processes
        self._running: dict[int, StageNode] = {}
        self._slots: dict[int, list[Slot]] = {}
        self._elsewhere: dict[str, StageNode] = {}
        self._before: dict[str, Path | None] = {}  # key -> the newest attempt, if it had ended when the stage was due
        self._started = 0
        self._checked = 0.0
        self._result = RunResult()

    def run(self, stopped: list[int]) -> RunResult:
        while self._schedule.left and not stopped:
            self._start_ready()
            self._collect(_POLL_S)
            self._check_elsewhere()
            self._show()
        if stopped:
            self._stop()
            self._result.signal = stopped[0]
        return self._result

    def _start_ready(self) -> None:
        while self._free:
            node = self._schedule.next()
            if node is None:
                return
            if node.key not in self._before:
                self._before[node.key] = attempts.latest_ended(self._store, node.stage, node.key)
            owner = self._store.claims.holder(node.key)
            if owner is not None:
                self._display.elsewhere(self._label(node), owner, self._store.claims.folder / node.key)
                self._elsewhere[node.key] = node
                continue
            processes = self._processes.get(node.key, 1)
            slots = take(self._free, processes if self._free[0] else 1)
            if slots is None:  # a stage that needs fewer slots must not go first, or this one would wait for ever
                self._schedule.release(node.key)
                return
            job = Job.of(node, self._table, self._store.root, Path.cwd(), processes=processes).write()
            self._started += 1
            self._running[self._started] = node
            self._slots[self._started] = slots
            self._display.started(node.key, self._label(node))
            self._workers.start(self._started, job, environment(slots))

    def _collect(self, timeout: float) -> None:
        for identity, code in self._workers.ended(timeout):
            node = self._running.pop(identity)
            self._free += self._slots.pop(identity)
            if code == attempt.EXIT_BUSY:
                self._display.stopped(node.key)
                self._elsewhere[node.key] = node
            elif node.stage == PRECOMPUTE:
                self._precompute_ended(node, code)
            elif code == attempt.EXIT_DONE and self._store.is_done(node.stage, node.key):
                self._result.ran += 1
                self._done(node)
            elif code == attempt.EXIT_INTERRUPTED:
                self._display.stopped(node.key)
                self._fail(node, "stopped by another process")
            else:
                self._fail(node, self._reason(node, code))

    def _done(self, node: StageNode) -> None:
        self._schedule.finished(node.key)
        self._display.finished(node.key, self._label(node))

    def _precompute_ended(self, node: StageNode, code: int) -> None:
        """A shared precompute job has ended, however: its stages do what is missing, and fail where it failed."""
        problem = None if code == attempt.EXIT_DONE else self._reason(node, code)
        folder = self._new_attempt(node)
        if problem is not None and folder is not None:
            attempts.record_death(folder, problem)
        self._schedule.finished(node.key)
        self._display.helped(node.key, self._label(node), problem)

    def _label(self, node: StageNode) -> str:
        return precompute.label(node) if node.stage == PRECOMPUTE else self._plan.label(node)

    def _fail(self, node: StageNode, reason: str) -> None:
        """A stage ended without a result, or its training diverged; what needs it is given up."""
        blocked = self._schedule.failed(node.key)
        folder = self._new_attempt(node)
        log = folder / attempts.LOG if folder else None
        if folder is not None:
            attempts.record_death(folder, reason)
        failure = Failure(self._plan.label(node), reason, log, len(blocked))
        if self._has_diverged(node):
            self._result.diverged.append(failure)
            self._display.diverged(node.key, failure.label, reason, len(blocked))
            return
        self._result.failures.append(failure)
        self._display.failed(node.key, failure.label, reason, log, len(blocked))

    def _new_attempt(self, node: StageNode) -> Path | None:
        """The newest attempt at a stage, unless it had ended before: what it says is not how this one ended."""
        folder = attempts.latest(self._store, node.stage, node.key)
        return None if folder == self._before.get(node.key) else folder

    def _has_diverged(self, node: StageNode) -> bool:
        """Whether a training diverged during this run, here or in another launcher."""
        ending = self._new_ending(node)
        return ending is not None and attempts.diverged(ending)

    def _new_ending(self, node: StageNode) -> dict[str, Any] | None:
        return attempts.ended_since(self._store, node.stage, node.key, self._before.get(node.key))

    def _reason(self, node: StageNode, code: int) -> str:
        if code < 0:
            name = signal_name(-code)
            hint = "; the machine may be out of memory, try --jobs 1" if -code == signal.SIGKILL else ""
            return f"killed by {name}{hint}"
        if code == EXIT_UNKNOWN:
            return (
                "killed, because the process that it was forked from was killed; the same command continues from here"
            )
        ending = self._new_ending(node)
        if ending is None and shutil.disk_usage(self._store.root).free < _FULL_BYTES:
            return f"the disk of {self._store.root} is full; free space ('ablate gc' lists what can be deleted)"
        if ending is None or not ending["reason"]:
            return f"exited with status {code} without an artefact or an error record"
        return str(ending["reason"])

    def _check_elsewhere(self) -> None:
        """Take up stages that another launcher has done, or has left."""
        if not self._elsewhere or time.monotonic() - self._checked < _OTHERS_S:
            return
        self._checked = time.monotonic()
        for key, node in list(self._elsewhere.items()):
            if self._store.is_done(node.stage, key):
                del self._elsewhere[key]
                self._done(node)
            elif self._store.claims.holder(key) is None:
                del self._elsewhere[key]
                if self._has_diverged(node):  # there meanwhile, and it would here
                    self._fail(node, divergence.diverged_stages(self._store, {key: node})[key])
                else:
                    self._schedule.release(key)

    def _show(self) -> None:
        self._display.progress({node.key: progress(self._store, node) for node in self._running.values()})

    def _stop(self) -> None:
        """Ask the attempts to end, and give them time to leave a record."""
        running = len(self._running)
        for identity in self._running:  # before anything is printed: the terminal may be gone
            self._workers.signal(identity, signal.SIGTERM)
        self._display.stopping(running)
        deadline = time.monotonic() + _PATIENCE_S
        while self._running and time.monotonic() < deadline:
            for identity, _ in self._workers.ended(_POLL_S):
                self._display.stopped(self._running.pop(identity).key)


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect the first SIGINT, SIGTERM or SIGHUP instead of dying of it; a second one ends the launcher at once.

    SIGHUP tells that the terminal was closed; it stays ignored where it was, as under ``nohup``.
    """
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[signal.Signals(number)])

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
