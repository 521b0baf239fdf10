"""Who is working on a stage: a process on a machine, distinguished from a later process with the same number.

A claim is taken over only from an owner that is proven dead, so every doubt here counts as alive: a machine that does
not answer, another machine with the same name, a process that the system hides, a start time that cannot be read.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import psutil

from ablations.json_shapes import fields, optional, text, whole
from ablations.store.provenance import slurm_job
from ablations.store.scheduler import scheduler

if TYPE_CHECKING:
    from collections.abc import Callable

    from ablations.store.scheduler import JobState

_UNKNOWN = -1
"""A start time that the system does not say."""
_FIRST_NAMESPACE, _FIRST_NAMES = "pid:[4026531836]", "uts:[4026531838]"
"""Of process numbers and of host names: those in which a machine starts, with the kernel's fixed numbers. A container
has others, of which one may be shared with the machine (``--pid=host``)."""
_MOST_PID = 2**31 - 1
"""The largest number that kill(2) takes; to it, 0 and negative ones are groups of processes, and all of them."""
_SHAPE = fields(
    **dict.fromkeys(("host", "boot", "namespace"), text),
    **dict.fromkeys(("slurm_job", "cluster", "machine"), optional(text)),
    **dict.fromkeys(("restarts", "user"), optional(whole)),
    pid=lambda value: whole(value) and 0 < value <= _MOST_PID,
    started=whole,
)
Query: TypeAlias = "Callable[[str], JobState | None]"


@dataclass(frozen=True)
class Owner:
    """A process.

    Attributes:
        host: name of the machine.
        boot: the machine's boot id; a reboot ends every process. Empty where the system has none.
        namespace: the process-number space (containers have their own). Empty where the system has none.
        pid: process number.
        started: clock ticks from boot to the start of the process; -1 where the system does not say.
        slurm_job: the SLURM job that the process is part of, ``123_4`` or ``123``; empty outside SLURM.
        restarts: how often that job had been requeued.
        cluster: the SLURM cluster's name; job numbers of another cluster mean other jobs.
        machine: the id of the installed system, which stays over a reboot: two machines may have the same name. Empty
            where the system has none, in claims of earlier versions, and in containers, where it is the image's: every
            container of the image has it, on whatever machine.
        user: number of the user whose process it is; -1 in claims of earlier versions.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    started: int
    slurm_job: str = ""
    restarts: int = 0
    cluster: str = ""
    machine: str = ""
    user: int = _UNKNOWN

    @staticmethod
    def unreadable() -> Owner:
        """Of a claim that cannot be read: no process that is known, so nothing proves that it has ended."""
        return Owner("", "", "", _UNKNOWN, _UNKNOWN)

    @property
    def is_known(self) -> bool:
        """False for the owner of a claim that cannot be read."""
        return self.pid > 0

    @staticmethod
    def here() -> Owner:
        """The calling process."""
        pid = os.getpid()
        place = (socket.gethostname(), _boot(), _namespace())
        process = Owner(*place, pid, _started(pid), machine=_machine(), user=os.geteuid())
        slurm = slurm_job()
        if slurm is None:
            return process
        return replace(process, slurm_job=slurm["job"], restarts=slurm["restarts"], cluster=slurm["cluster"])

    @staticmethod
    def of(content: Any) -> Owner:
        """The inverse of :meth:`fields`. Raises ValueError on anything else."""
        if not _SHAPE(content):
            raise ValueError(f"no owner of a claim: {content!r}")
        return Owner(
            host=content["host"],
            boot=content["boot"],
            namespace=content["namespace"],
            pid=content["pid"],
            started=content["started"],
            slurm_job=content.get("slurm_job") or "",
            restarts=content.get("restarts") or 0,
            cluster=content.get("cluster") or "",
            machine=content.get("machine") or "",
            user=_UNKNOWN if content.get("user") is None else content["user"],
        )

    def fields(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)

    def is_dead(self, ask: Query | None = None) -> bool:
        """True only if the process provably no longer runs; never judged by age.

        Args:
            ask: answers the state of a SLURM job, or None; by default it asks the scheduler.
        """
        if self.machine_restarted():
            return True
        if not self.is_here():
            return self._job_has_ended(ask)
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            # Where other users' processes are hidden, some systems say this of a living one too.
            return self.user == os.geteuid() or not _others_are_hidden()
        except PermissionError:  # another user's process
            pass
        return self._number_was_reused() or _is_zombie(self.pid)

    def is_here(self) -> bool:
        """True if its number means this process to this system: same machine, same start of it, same container.

        Only then may it be signalled; there are machines and containers with equal names.
        """
        place = (socket.gethostname(), _boot(), _namespace())
        # A mounted /proc may hide the boot id of Linux; without it the rest is that of other machines too.
        hidden = sys.platform == "linux" and "" in place
        return self.is_known and not hidden and (self.host, self.boot, self.namespace) == place

    def machine_restarted(self) -> bool:
        """True if it ran on this very machine before the machine's last start.

        Of a container it cannot be said: another one of the same name and image may run on another machine, whose boot
        id is another one too. Claims of earlier versions have the image's id, so their namespace decides.
        """
        this = self.host == socket.gethostname() and bool(self.machine) and self.machine == _machine()
        outside = _FIRST_NAMESPACE == self.namespace == _namespace()
        return this and outside and "" not in (self.boot, _boot()) and self.boot != _boot()

    def _number_was_reused(self) -> bool:
        """Whether the process that has the number now started at another time."""
        started = _started(self.pid)
        return _UNKNOWN not in (started, self.started) and started != self.started

    def _job_has_ended(self, ask: Query | None) -> bool:
        """Whether SLURM has ended the job of a process that cannot be seen from here."""
        if not self.slurm_job:
            return False
        own_job = slurm_job()
        if self.cluster and self.cluster != (own_job["cluster"] if own_job else scheduler().cluster()):
            return False
        if own_job is not None and own_job["job"] == self.slurm_job:
            return bool(own_job["restarts"] > self.restarts)
        state = (ask or scheduler().job_state)(self.slurm_job)
        if state is None:
            return False
        return state.has_no_process or state.restarts > self.restarts

    def __str__(self) -> str:
        if not self.is_known:
            return "an unknown process (its claim cannot be read)"
        job = f" (SLURM job {self.slurm_job})" if self.slurm_job else ""
        return f"process {self.pid} on {self.host}{job}"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _machine() -> str:
    """A digest: the id itself is not to be shown to others (machine-id(5)); empty in a container."""
    if _namespace() != _FIRST_NAMESPACE or _link("uts") != _FIRST_NAMES:
        return ""
    try:
        identity = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        return ""
    return hashlib.sha256(b"qsd " + identity).hexdigest()[:16] if identity else ""


def _others_are_hidden() -> bool:
    """Whether this user may not see processes of others: ``/proc`` is mounted with hidepid, or there is none."""
    return not Path("/proc/1/stat").exists()


def _namespace() -> str:
    return _link("pid")


def _link(kind: str) -> str:
    """The name of this process's namespace of a kind; empty where the system has none."""
    try:
        return str((Path("/proc/self/ns") / kind).readlink())
    except OSError:
        return ""


def _started(pid: int) -> int:
    """Clock ticks from boot to the start of a process; ``_UNKNOWN`` where the system does not say."""
    try:
        boot = psutil.boot_time()
        created = psutil.Process(pid).create_time()
    except (psutil.Error, OSError):  # it has ended, or is hidden from this user, as the time of boot may be
        return _UNKNOWN
    # psutil adds the time of boot to what the kernel counts. That time moves when the clock is set, which would make
    # another process of the same one, so it is taken off again.
    return round((created - boot) * os.sysconf("SC_CLK_TCK")) if psutil.boot_time() == boot else _UNKNOWN


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and only waits for its parent to ask how."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except (psutil.Error, OSError):
        return False
