"""One stage by several processes of one machine, such as one per GPU; ``torch.distributed`` lets them find one another.

The attempt's own process does not compute. It forks the others before it has a thread, passes signals on, and records
how they ended: the first that failed is the reason, not what its partners make of its loss. The terms are torchrun's
(its environment variables, a store in the launcher), but not its code: ``torch.distributed.elastic`` sends SIGTERM to
all as soon as one has ended, kills them 30 s later (no argument changes that), and reports that one alone. Here a
training that was stopped in order has ten minutes to save its state, and the reason is the earliest failure.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from ablations.files import read_json, write_json
from ablations.running import error_record
from ablations.running.log_file import log_to, tail
from ablations.running.process_lifetime import run_as_child
from ablations.running.signal_names import signal_name
from qsd.errors import UserError
from qsd.runtime import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ablations.grid.keys import StageTable
    from ablations.running.progress_file import ProgressFile
    from ablations.running.stopping import Stop
    from qsd.runtime import Report

_ADDRESS = "127.0.0.1"
_POLL_S = 0.05
_PATIENCE_S = 5.0
"""For the others to end by themselves when one has failed: they may wait for it for ever."""
_SAVING_S = 600.0
"""For the others when one was stopped in order: the first may still save the state of all."""
_LAST_LINES = 20


class FailedProcessError(Exception):
    """One of several processes failed.

    Attributes:
        reason: one line.
        error: as ``error_record.error_record`` has it; None for a process that left no error record.
    """

    def __init__(self, reason: str, error: dict[str, Any] | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error


def count_of(stage: str, values: Mapping[str, Any], table: StageTable, gpus: int | None) -> int:
    """How many processes run a stage.

    Args:
        stage: its kind; shared precompute jobs (``precompute.PRECOMPUTE``) are in no table and run in one process.
        values: its flat configuration.
        table: all kinds of stages.
        gpus: GPUs that the place gives to each stage of the kind; None where it gives one to each process.

    Raises:
        UserError: the configuration asks for more processes than can share the work.
    """
    spec = table.STAGES.get(stage)
    return spec.processes(values, gpus) if spec is not None and spec.processes is not None else 1


class ProcessGroup:
    """The processes that run one stage.

    Args:
        count: how many; one is this process itself.
        folder: for the others' logs and their records of how they ended.
        report: of the stage; with several processes, of the first.
        stop: this process's; the others inherit it, and so never miss a signal.
    """

    def __init__(self, count: int, folder: Path, report: ProgressFile, stop: Stop) -> None:
        self._count, self._folder, self._report, self._stop = count, folder, report, stop
        self._running: dict[int, int] = {}  # process number -> rank
        self._codes: dict[int, int] = {}  # rank -> exit status, or minus the signal's number
        self._results: dict[int, dict[str, Any]] = {}  # rank -> its record, if it left one
        self._killed_here: set[int] = set()  # ranks that had not ended when the group was ended
        self._rss = 0

    def run(self, work: Callable[[Report], None]) -> None:
        """Call ``work`` in every process; all have ended when this returns or raises.

        Raises:
            FailedProcessError: one of several processes failed; what it raised, if there is but one process.
            Interrupted: they were asked to end.
        """
        if self._count == 1:
            work(self._report)
            return
        if self._stop.signal is not None:
            raise Interrupted(f"stopped by {self._stop.signal}")
        self._folder.mkdir()
        try:
            store = self._start(work)
            self._wait()
            del store  # until here the others may ask it
        finally:
            self._end_all()
        self._raise_first_failure()

    def progress(self) -> dict[str, Any] | None:
        """As ``ProgressFile.reached``."""
        return self._report.reached() if self._count == 1 else self._results.get(0, {}).get("progress")

    def stopped_by(self) -> str | None:
        """The first signal that asked this process, or else one of the others, to end."""
        signals = (result["signal"] for result in self._results.values() if result["signal"])
        return self._stop.signal or next(signals, None)

    def max_rss_bytes(self) -> int:
        """The most memory of each process, added up; what they share counts in each."""
        return error_record.max_rss_bytes() + self._rss

    def max_cuda_bytes(self) -> int | None:
        """The most memory reserved on any one GPU; None without a GPU, or if no process left a record."""
        peaks = [error_record.max_cuda_bytes(), *(result["max_cuda_bytes"] for result in self._results.values())]
        return max((peak for peak in peaks if peak is not None), default=None)

    def _start(self, work: Callable[[Report], None]) -> Any:
        """Fork the processes; the store by which they find one another.

        Its port is taken before they start, so no other job of the machine can come between.
        """
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        with socket.socket() as listening:
            listening.bind((_ADDRESS, 0))
            listening.listen(self._count)
            port = listening.getsockname()[1]
            parent = os.getpid()
            # What is still in a buffer would be written once by every process.
            sys.stdout.flush()
            sys.stderr.flush()
            for rank in range(self._count):
                pid = os.fork()
                if pid == 0:
                    self._run_rank(rank, parent, listening, work)
                self._running[pid] = rank
            return TCPStore(_ADDRESS, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach())

    def _run_rank(self, rank: int, parent: int, listening: socket.socket, work: Callable[[Report], None]) -> NoReturn:
        """All that a forked process does."""

        def body() -> int:
            os.environ.update(_environment(rank, self._count, listening.getsockname()[1]))
            listening.close()
            if rank:  # the first writes to the attempt's own log
                log_to(self._log(rank))
            result = self._result(rank, work)
            write_json(self._record(rank), result)
            return 0 if result["state"] == "done" else 1

        run_as_child(parent, body)

    def _result(self, rank: int, work: Callable[[Report], None]) -> dict[str, Any]:
        """Do the work; the record of how that ended."""
        state, reason, error = "done", None, None
        try:
            try:
                work(self._report if rank == 0 else self._check_only)
            finally:
                # Before anything is written: it decides who failed first, on a clock that all share.
                moment = time.monotonic()
                self._stop.unwatch()
        except Interrupted as interruption:
            state, reason = "interrupted", str(interruption)
        except UserError as mistake:
            state, reason, error = "failed", str(mistake), error_record.error_record(mistake)
        except BaseException as fault:
            traceback.print_exc()
            state, reason, error = "failed", error_record.one_line(fault), error_record.error_record(fault)
        self._report.flush()
        return {
            "state": state,
            "reason": reason,
            "error": error,
            "monotonic": moment,
            "progress": self._report.reached(),
            "signal": self._stop.signal,
            "max_cuda_bytes": error_record.max_cuda_bytes(),
        }

    def _check_only(self, done: int, total: int, unit: str) -> None:
        """The report of all but the first process: it writes nothing, but ends the work after a signal."""
        self._stop.check()

    def _wait(self) -> None:
        """Wait until all have ended. Signals are passed on; when one has failed, the others get a little time."""
        passed_on, deadline = False, float("inf")
        while self._running:
            if self._stop.stopping() and not passed_on:
                passed_on = True
                self._send(signal.Signals[str(self._stop.signal)])
            for rank in self._reap():
                if self._codes[rank]:
                    stopped = self._results.get(rank, {}).get("state") == "interrupted"
                    deadline = min(deadline, time.monotonic() + (_SAVING_S if stopped else _PATIENCE_S))
            if time.monotonic() > deadline:
                return
            if self._running:
                time.sleep(_POLL_S)

    def _reap(self) -> list[int]:
        """The ranks that have ended since the last call."""
        ended = []
        for pid, rank in list(self._running.items()):
            reaped, status, usage = os.wait4(pid, os.WNOHANG)
            if reaped:
                del self._running[pid]
                self._codes[rank] = os.waitstatus_to_exitcode(status)
                self._rss += usage.ru_maxrss * 1024
                result = read_json(self._record(rank))
                if isinstance(result, dict):
                    self._results[rank] = result
                ended.append(rank)
        return ended

    def _end_all(self) -> None:
        """Kill whatever still runs."""
        self._killed_here = set(self._running.values())
        self._send(signal.SIGKILL)
        while self._running:
            self._reap()
            time.sleep(_POLL_S if self._running else 0)

    def _send(self, number: signal.Signals) -> None:
        for pid in self._running:  # not reaped yet, so the number is still theirs
            os.kill(pid, number)

    def _raise_first_failure(self) -> None:
        """Raise the reason of the first process that did not finish its work; one without a record comes first."""
        failed = [rank for rank, code in self._codes.items() if code and rank not in self._killed_here]
        if not failed:
            return
        first = min(failed, key=lambda rank: (self._results.get(rank, {}).get("monotonic", float("-inf")), rank))
        result = self._results.get(first)
        if result is not None and result["state"] == "interrupted":
            raise Interrupted(str(result["reason"]))
        name = f"process {first + 1} of {self._count}"
        reason = str(result["reason"]) if result else f"{_death(self._codes[first])}: {name}"
        if first:
            print(f"{name} failed first; its last lines:")
            for line in tail(self._log(first), _LAST_LINES):
                print(f"  | {line}")
        print(f"error: {reason}", flush=True)
        raise FailedProcessError(reason, result["error"] if result else None)

    def _log(self, rank: int) -> Path:
        return self._folder / f"{rank}.log"

    def _record(self, rank: int) -> Path:
        return self._folder / f"{rank}.json"


def _environment(rank: int, count: int, port: int) -> dict[str, str]:
    """The variables that torch and accelerate read."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": _ADDRESS,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is not the first process's to make
    }


def _death(code: int) -> str:
    """How a process ended that left no error record."""
    if code >= 0:
        return f"exited with status {code} without an error record"
    hint = "; memory may be exhausted" if -code == signal.SIGKILL else ""
    return f"killed by {signal_name(-code)}{hint}"
