"""What runs on a node: submitit calls :func:`run_job` with the path of a job file.

The attempt itself runs in a child process, from the job's snapshot, so that this small process sees how it ended, even
if it was killed for want of memory. SLURM signals both, or (with cgroups) this one alone, which passes signals on.
A stop by the time limit or by preemption ends in ``scontrol requeue`` as long as the stage gets further; whatever else
leaves the stage undone ends with a status that makes the SLURM job fail, so nothing that waits for it starts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.running import attempt
from ablations.running.process_lifetime import end_with_parent
from ablations.running.signal_names import signal_name
from ablations.running.stopping import SIGNALS
from ablations.slurm import requeue
from ablations.store import attempts
from ablations.store.jobs import Job
from qsd.surroundings import widen_streams

if TYPE_CHECKING:
    from types import FrameType

_POLL_S = (1.0, 30.0)
"""Seconds between two checks of a stage that another process works on: at first, and at most."""


def run_job(path: str) -> None:
    """Run the stage whose job file is at ``path``, or wait until another process has.

    Raises:
        SystemExit: the stage is not done; its status makes the SLURM job fail.
    """
    _clear_leftovers()
    widen_streams()
    code = _Supervisor(Path(path).resolve()).run()
    if code:
        sys.stdout.flush()
        raise SystemExit(code)


def _checkpoint(path: str) -> Any:
    """Called by submitit if the time limit or preemption comes before :func:`run_job` has begun: start again."""
    from submitit.helpers import DelayedSubmission

    return DelayedSubmission(run_job, path)


run_job.checkpoint = _checkpoint  # type: ignore[attr-defined]


class _Supervisor:
    """Starts attempts at one job until its stage is done, fails, or this process is asked to end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._job = Job.read(path)
        self._signals: list[int] = []
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        for number in SIGNALS:
            signal.signal(number, self._pass_on)
        signal.signal(signal.SIGCONT, signal.SIG_DFL)
        stuck = requeue.stuck(self._job)
        if stuck:
            return self._give_up(stuck)
        code = self._attempts()
        if code == attempt.EXIT_DONE or not self._signals:
            return code
        return self._after_signal(code)

    def _attempts(self) -> int:
        pause = _POLL_S[0]
        while not self._signals:
            code = self._attempt()
            if code != attempt.EXIT_BUSY:
                return code
            print(f"another process works on {self._job.stage}/{self._job.key}; waiting for it", flush=True)
            before = attempts.latest_ended(self._job.store(), self._job.stage, self._job.key)
            while not self._free() and not self._signals:
                self._sleep(pause)
                pause = min(2 * pause, _POLL_S[1])
            if self._diverged_since(before):
                print("its training diverged there; it is not tried again", flush=True)
                return attempt.EXIT_FAILED
        return attempt.EXIT_BUSY

    def _free(self) -> bool:
        """True if the stage is done, or no process works on it any more."""
        store = self._job.store()
        return store.is_done(self._job.stage, self._job.key) or store.claims.holder(self._job.key) is None

    def _diverged_since(self, before: Path | None) -> bool:
        """True if the latest attempt, of another process, diverged; not if it had before this one began to wait."""
        ending = attempts.ended_since(self._job.store(), self._job.stage, self._job.key, before)
        return ending is not None and attempts.diverged(ending)

    def _attempt(self) -> int:
        """One attempt in a child process; its exit status."""
        code_path = [self._job.snapshot] if self._job.snapshot else []
        inherited = os.environ.get("PYTHONPATH", "")
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-u", "-m", "ablations.slurm.entry", str(os.getpid()), str(self._path)],
            cwd=self._job.root,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([*code_path, *filter(None, [inherited])])},
        )
        for number in self._signals:  # came while the child was being started
            self._child.send_signal(number)
        status = self._child.wait()
        self._child = None
        if status < 0:
            return self._killed(-status)
        return status

    def _killed(self, number: int) -> int:
        """Leave the record that a killed child could not."""
        name = signal_name(number)
        if self._signals:  # asked to end before it could listen
            return attempt.EXIT_INTERRUPTED
        store = self._job.store()
        folder = attempts.latest(store, self._job.stage, self._job.key)
        hint = "; the node or the job's memory may be exhausted" if number == signal.SIGKILL else ""
        if folder is not None and requeue.is_ours(folder):
            attempts.record_death(folder, f"killed by {name}{hint}")
        print(f"the attempt was killed by {name}{hint}", flush=True)
        return attempt.EXIT_FAILED

    def _after_signal(self, code: int) -> int:
        """This process was asked to end, and the stage is not done."""
        if code == attempt.EXIT_FAILED:
            return code
        if code != attempt.EXIT_BUSY:
            requeue.note_stop(self._job)
        stuck = requeue.stuck(self._job)
        if stuck:
            return self._give_up(stuck)
        if requeue.wanted(self._signals) and requeue.requeue():
            print("requeued: it continues from here", flush=True)
        return attempt.EXIT_BUSY

    def _give_up(self, reason: str) -> int:
        store = self._job.store()
        folder = attempts.latest(store, self._job.stage, self._job.key)
        if folder is not None and requeue.is_ours(folder):
            attempts.give_up(folder, reason)
        print(f"error: {reason}", flush=True)
        return attempt.EXIT_FAILED

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self._signals.append(number)
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(number)

    def _sleep(self, seconds: float) -> None:
        """Until the time is over or a signal has come."""
        end = time.monotonic() + seconds
        while not self._signals and time.monotonic() < end:
            time.sleep(min(0.5, max(0.0, end - time.monotonic())))


def _clear_leftovers() -> None:
    """Remove what a kill left in submitit's folder: it refuses to write a result beside it."""
    folder = os.environ.get("SUBMITIT_FOLDER")
    job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
    if folder and job:
        element = os.environ.get("SLURM_ARRAY_TASK_ID")
        name = f"{job}_{element}" if element else job
        for path in Path(folder).glob(f"{name}_*.save_tmp"):
            path.unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """The child process: ``PARENT JOB.json``."""
    parent, path = arguments
    end_with_parent(int(parent))
    return attempt.main([path])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
