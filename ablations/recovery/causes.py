"""Why an attempt failed or was lost: one word per cause, what it means, and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.store import scheduler
from ablations.store.attempts import diverged
from ablations.store.divergence import CAUSE as DIVERGED
from qsd.config.digest import hash_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ablations.store.scheduler import JobState


@dataclass(frozen=True)
class Cause:
    """A kind of failure.

    Attributes:
        name: as ``--cause`` takes it.
        title: for a heading.
        remedy: what to do, one line.
    """

    name: str
    title: str
    remedy: str


CAUSES = {
    cause.name: cause
    for cause in (
        Cause("cuda-oom", "CUDA out of memory", "retry --cause cuda-oom --micro-batch-half, or a larger GPU"),
        Cause(
            "host-oom",
            "out of memory (host)",
            "fewer --jobs, more memory in the cluster profile, or retry --cause host-oom --micro-batch-half",
        ),
        Cause(
            DIVERGED,
            "training diverged",
            f"a result of these settings, not tried again unless asked: retry --cause {DIVERGED}",
        ),
        Cause("disk-full", "disk full or over quota", "free space ('ablate gc'), then retry --cause disk-full"),
        Cause("node-failure", "the machine failed", "retry --cause node-failure"),
        Cause("missing-file", "weights or data are missing", "'ablate prefetch', or fix the path, then retry"),
        Cause("missing-module", "a Python module is missing", "install it in the environment of the jobs, then retry"),
        Cause("preempted", "preempted", "'ablate resume' continues from the last checkpoint"),
        Cause("timed-out", "time limit", "'ablate resume' continues from the last checkpoint; or give more minutes"),
        Cause("no-progress", "stopped twice without progress", "give the stage more time or checkpoint more often"),
        Cause("cancelled", "cancelled", "retry --cause cancelled, or the same run again"),
        Cause("lost", "ended without a record", "retry --cause lost; its last lines may say more"),
        Cause("user-code", "error in code or settings", "see the log; after fixing it, retry"),
    )
}
MEMORY = ("cuda-oom", "host-oom")
GROUPS = {"oom": MEMORY}
"""Words that stand for several causes."""

_ENDINGS = {
    scheduler.OUT_OF_MEMORY: "host-oom",
    scheduler.TIMED_OUT: "timed-out",
    scheduler.NODE_FAILURE: "node-failure",
    scheduler.PREEMPTED: "preempted",
    scheduler.CANCELLED: "cancelled",
}
"""How a job ended -> the cause. A job that merely failed says nothing about why."""
_TEXTS = (
    ("cuda-oom", r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|HIP out of memory"),
    (
        "host-oom",
        r"DefaultCPUAllocator|can.t allocate memory|Cannot allocate memory|Unable to allocate .* an array",
    ),
    ("disk-full", r"No space left on device|Disk quota exceeded|PytorchStreamWriter failed writing"),
    ("no-progress", r"^no progress"),
    ("missing-module", r"No module named|cannot import name|undefined symbol|cannot open shared object file"),
    (
        "missing-file",
        r"[Nn]o such file|(is|are) missing\b|not a local folder and is not a valid model|offline mode is enabled",
    ),
)
_TYPES = {
    "OutOfMemoryError": "cuda-oom",
    "MemoryError": "host-oom",
    "_ArrayMemoryError": "host-oom",
    "ModuleNotFoundError": "missing-module",
    "ImportError": "missing-module",
    "FileNotFoundError": "missing-file",
    "LocalEntryNotFoundError": "missing-file",
    "EntryNotFoundError": "missing-file",
    "RepositoryNotFoundError": "missing-file",
}
_KILLED = re.compile(r"^killed by (SIG\w+)")


def cause_of(ending: Mapping[str, Any] | None, job: JobState | None = None, lost: str = "lost") -> str:
    """The cause of a failed or lost attempt.

    Args:
        ending: its ``exit.json``; None if it left none.
        job: what the scheduler says about its job, if it is known.
        lost: the cause if nothing else gives one: ``lost``, or ``node-failure`` where the machine has failed.
    """
    by_scheduler = _ENDINGS.get(job.ending) if job else None
    if ending is None:
        return by_scheduler or lost
    error, reason = ending.get("error"), str(ending.get("reason") or "")
    # A signal without an exception: the process never got to say why. SIGKILL is nearly always the kernel's OOM killer.
    killed = _KILLED.match(reason)
    if killed and not error:
        signal = killed[1]
        by_signal = {"SIGKILL": "host-oom", "SIGTERM": "cancelled", "SIGINT": "cancelled", "SIGHUP": "cancelled"}
        return by_scheduler or by_signal.get(signal, "user-code")
    if ending["state"] == "interrupted":
        return by_scheduler or ("preempted" if ending.get("signal") == "SIGUSR2" else "cancelled")
    return DIVERGED if diverged(ending) else _of_error(error or {}, reason)


def _of_error(error: Mapping[str, Any], reason: str) -> str:
    kind = str(error.get("type") or "").rpartition(".")[2]
    if kind in _TYPES:
        return _TYPES[kind]
    text = str(error.get("message") or "") or reason
    return next((name for name, pattern in _TEXTS if re.search(pattern, text)), "user-code")


def fingerprint(stage: str, cause: str, ending: Mapping[str, Any] | None) -> str:
    """Eight digits, equal for failures of one kind at one place: type and frames, or without a traceback the stage."""
    error = (ending or {}).get("error") or {}
    if error.get("frames"):
        return hash_of([cause, error.get("type"), error["frames"]])[:8]
    # Numbers (steps, sizes, ids) differ between failures of one kind.
    reason = re.sub(r"\d+", "#", str((ending or {}).get("reason") or ""))
    return hash_of([cause, stage, reason])[:8]


def names(wanted: str | None) -> tuple[str, ...]:
    """The causes that ``--cause`` means: one, a group such as ``oom``, or all."""
    from qsd.errors import UserError
    from qsd.registry import suggest

    if wanted is None:
        return tuple(CAUSES)
    if wanted in GROUPS:
        return GROUPS[wanted]
    if wanted not in CAUSES:
        known = [*GROUPS, *CAUSES]
        raise UserError(f"unknown cause {wanted!r}{suggest(wanted, known)}; known: {', '.join(known)}")
    return (wanted,)
