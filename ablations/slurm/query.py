"""What the scheduler says of jobs: one squeue for all of them, then sacct where there is accounting.

No answer is never taken for an end: every function tells "the controller says so" from "the controller is silent".
"""

from __future__ import annotations

import getpass
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GONE = "GONE"
"""State of a job that an answering controller does not know (any more)."""
WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
ACTIVE = frozenset(
    {"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
)
_PATIENCE_S = 60
_answered: list[str] = []  # the cluster's name, once it is known
_FORMAT = "JobArrayID:|,State:|,RestartCnt:|,NodeList:|,Reason:|"


@dataclass(frozen=True)
class JobState:
    """One job, or one element of an array.

    Attributes:
        job: ``123`` or ``123_4``.
        state: SLURM's word (PENDING, RUNNING, COMPLETED, CANCELLED, TIMEOUT, ...) or :data:`GONE`.
        reason: why it waits or how it ended, in SLURM's words; may be empty.
        node: where it runs or ran; may be empty.
        restarts: how often it was requeued and started again; 0 where only sacct answered.
    """

    job: str
    state: str
    reason: str = ""
    node: str = ""
    restarts: int = 0

    @property
    def alive(self) -> bool:
        """True if the job runs or may still run."""
        return self.state in WAITING or self.state in ACTIVE


def available() -> bool:
    """True if this machine has SLURM's commands."""
    return shutil.which("squeue") is not None


def cluster() -> str | None:
    """Name of the cluster whose controller answers here; None without an answer."""
    if not _answered:
        found = config()
        if not found:
            return None
        _answered.append(found.get("ClusterName", ""))
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
    found = states([job])
    return None if found is None else found[job]


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
    if any(job not in known for job in wanted):
        known = _sacct(arrays) | known
    return {job: known.get(job) or JobState(job, GONE) for job in wanted}


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
    found: dict[str, JobState] = {}
    for line in text.splitlines():
        parts = [part.strip() for part in line.split("|")]
        if len(parts) >= 5:
            job, state, restarts, node = parts[:4]
            reason = "" if parts[4] == "None" else parts[4]
            found[job] = JobState(job, state, reason, node, int(restarts) if restarts.isdecimal() else 0)
    return found


def _sacct(arrays: str) -> dict[str, JobState]:
    """Ended jobs by SLURM's accounting; empty where there is none."""
    if shutil.which("sacct") is None:
        return {}
    text = _answer(
        ["sacct", "--noheader", "--allocations", "--parsable2", f"--jobs={arrays}", "--format=JobID,State,NodeList"]
    )
    found: dict[str, JobState] = {}
    for line in (text or "").splitlines():
        job, state, node = [*line.split("|"), "", ""][:3]
        word = (state.split() or [""])[0].rstrip("+")
        if word and "[" not in job:
            found[job] = JobState(job, word, state if state != word else "", "" if "None" in node else node)
    return found


def _answer(command: Sequence[str]) -> str | None:
    """Standard output of a command that reached the controller. An id that it does not know is an answer, too."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode == 0 or "Invalid job id" in done.stderr:
        return done.stdout
    return None
