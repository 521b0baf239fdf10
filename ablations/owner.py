"""Who is working on a stage: a process on a machine, told apart from a later process with the same number."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Owner:
    """A process.

    Attributes:
        host: name of the machine.
        boot: the machine's boot id; a reboot ends every process. Empty where the system does not tell.
        namespace: the process-number space (containers have their own). Empty where the system does not tell.
        pid: process number.
        started: clock ticks from boot to the start of the process; -1 where the system does not tell.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    started: int

    @staticmethod
    def here() -> Owner:
        """The calling process."""
        pid = os.getpid()
        return Owner(socket.gethostname(), _boot(), _namespace(), pid, _started(pid))

    @staticmethod
    def of(fields: dict[str, Any]) -> Owner:
        """The inverse of :meth:`fields`. Raises KeyError or ValueError on anything else."""
        return Owner(
            host=str(fields["host"]),
            boot=str(fields["boot"]),
            namespace=str(fields["namespace"]),
            pid=int(fields["pid"]),
            started=int(fields["started"]),
        )

    def fields(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)

    def gone(self) -> bool:
        """True only if the process provably no longer runs; never judged by age, never from another machine."""
        if self.host != socket.gethostname():
            return False
        if self.boot != _boot():
            return True
        if self.namespace != _namespace():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return _started(self.pid) != self.started or _is_zombie(self.pid)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _boot() -> str:
    return _read("/proc/sys/kernel/random/boot_id").strip()


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _after_name(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on; the second, the name in brackets, may hold spaces."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _started(pid: int) -> int:
    fields = _after_name(pid)
    return int(fields[19]) if len(fields) > 19 else -1


def _is_zombie(pid: int) -> bool:
    fields = _after_name(pid)
    return bool(fields) and fields[0] in "ZX"
