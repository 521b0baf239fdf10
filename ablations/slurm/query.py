"""What SLURM says about jobs: one squeue for all of them, then sacct where there is accounting.

These functions are the scheduler that the store asks (``ablations.store.scheduler``). No answer is never taken for an
end: every function tells "the controller says so" from "the controller does not answer".
"""

from __future__ import annotations

import getpass
import shutil
import subprocess
from typing import TYPE_CHECKING

from ablations.store import scheduler
from ablations.store.scheduler import JobState, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CONTROLLER_UNREACHABLE = "the SLURM controller does not answer (try 'squeue'); nothing was submitted"
GONE = "GONE"
"""State of a job that an answering controller does not know (any more)."""
_WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")
_ACTIVE = ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
"""COMPLETING is among them: processes of such a job may still run."""
_ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE")
_PHASES = {
    **dict.fromkeys(_WAITING, Phase.WAITING),
    **dict.fromkeys(_ACTIVE, Phase.ACTIVE),
    **dict.fromkeys((*_ENDED, "PREEMPTED", GONE), Phase.ENDED),
}
_ENDINGS = {
    "FAILED": scheduler.FAILED,
    "OUT_OF_MEMORY": scheduler.OUT_OF_MEMORY,
    "TIMEOUT": scheduler.TIMED_OUT,
    "DEADLINE": scheduler.TIMED_OUT,
    "NODE_FAIL": scheduler.NODE_FAILURE,
    "BOOT_FAIL": scheduler.NODE_FAILURE,
    "PREEMPTED": scheduler.PREEMPTED,
    "CANCELLED": scheduler.CANCELLED,
}
_PATIENCE_S = 60
_answered: list[str] = []  # the cluster's name, once it is known
_FORMAT = "JobArrayID:|,State:|,RestartCnt:|,NodeList:|,Reason:|"


def described(job: str, state: str, reason: str = "", node: str = "", restarts: int = 0) -> JobState:
    """A job by SLURM's word for its state (PENDING, RUNNING, COMPLETED, ...) or :data:`GONE`, in neutral words."""
    phase = _PHASES.get(state, Phase.UNCLEAR)
    return JobState(job, state, phase, _ENDINGS.get(state, ""), reason, node, restarts)


def available() -> bool:
    """True if this machine has SLURM's commands."""
    return shutil.which("squeue") is not None


def cluster() -> str | None:
    """Name of the cluster whose controller answers here; None without an answer."""
    if not _answered:
        configuration = config()
        if not configuration:
            return None
        _answered.append(configuration.get("ClusterName", ""))
    return _answered[0]


def config() -> dict[str, str] | None:
    """The controller's configuration, or None without an answer."""
    text = _answer(["scontrol", "show", "config"]) or ""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs} or None


def queued() -> int | None:
    """Jobs of this user in the queue, counting every element of an array; None without an answer."""
    text = _answer(["squeue", "--noheader", "--array", f"--user={getpass.getuser()}", "--format=%i"])
    return None if text is None else len(text.split())


def job_state(job: str) -> JobState | None:
    """The state of one job, or None without an answer."""
    answers = states([job])
    return None if answers is None else answers[job]


def states(jobs: Iterable[str]) -> dict[str, JobState] | None:
    """The state of every job in ``jobs`` (ids as ``123`` or ``123_4``), or None if the controller does not answer."""
    wanted = list(dict.fromkeys(jobs))
    if not wanted:
        return {}
    if not available():
        return None
    arrays = ",".join(dict.fromkeys(job.partition("_")[0] for job in wanted))
    known = _squeue(arrays)
    if known is None:
        return None
    if any(job not in known for job in wanted):  # squeue forgets a job some minutes after its end (MinJobAge)
        known = _sacct(arrays) | known  # squeue wins: it knows restarts, and accounting lags behind
    return {job: known.get(job) or described(job, GONE) for job in wanted}


def dependencies(jobs: Iterable[str]) -> dict[str, str] | None:
    """What each job still waits for, in squeue's words such as ``afterok:4(unfulfilled)``; None without an answer."""
    wanted = set(jobs)
    arrays = ",".join(dict.fromkeys(job.partition("_")[0] for job in wanted))
    text = _answer(["squeue", "--noheader", "--array", f"--jobs={arrays}", "--Format=JobArrayID:|,Dependency:|"])
    if text is None:
        return None
    rows = ([part.strip() for part in line.split("|")] for line in text.splitlines())
    return {row[0]: row[1] for row in rows if len(row) >= 2 and row[0] in wanted}


def _squeue(arrays: str) -> dict[str, JobState] | None:
    text = _answer(["squeue", "--noheader", "--array", "--states=all", f"--jobs={arrays}", f"--Format={_FORMAT}"])
    if text is None:
        return None
    states: dict[str, JobState] = {}
    for line in text.splitlines():
        parts = [part.strip() for part in line.split("|")]
        if len(parts) >= 5:  # a warning of squeue on standard output has fewer
            job, state, restarts, node = parts[:4]
            reason = "" if parts[4] == "None" else parts[4]
            states[job] = described(job, state, reason, node, int(restarts) if restarts.isdecimal() else 0)
    return states


def _sacct(arrays: str) -> dict[str, JobState]:
    """Ended jobs by SLURM's accounting; empty where there is none."""
    if shutil.which("sacct") is None:
        return {}
    text = _answer(
        ["sacct", "--noheader", "--allocations", "--parsable2", f"--jobs={arrays}", "--format=JobID,State,NodeList"]
    )
    states: dict[str, JobState] = {}
    for line in (text or "").splitlines():
        job, state, node = [*line.split("|"), "", ""][:3]
        word = (state.split() or [""])[0].rstrip("+")
        if word and "[" not in job:  # ``12_[3-9]`` stands for elements that have not begun; squeue has them
            states[job] = described(job, word, state if state != word else "", "" if "None" in node else node)
    return states


def _answer(command: Sequence[str]) -> str | None:
    """Standard output of a command that reached the controller. An id that it does not know is an answer, too."""
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if process.returncode == 0 or "Invalid job id" in process.stderr:
        return process.stdout
    return None
