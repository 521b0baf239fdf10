"""How much main memory this process may still take: what the node has free, or less where its job may not use it all.

A job's share is enforced by the control groups of Linux (version 1 or 2), which count the whole job, or by SLURM alone,
which tells it in the environment. A group's own page cache does not count as taken: the kernel gives it up first, as
it does in ``MemAvailable``.

Sources: proc(5); the kernel's cgroup-v2.rst and cgroup-v1/memory.rst; sbatch(1), "output environment variables".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_UNKNOWN = 2**62
_KIB, _MIB = 2**10, 2**20


@dataclass(frozen=True)
class _Version:
    """Of control groups: where they are, and the names of their files and of the lines of ``memory.stat``."""

    mount: str
    limit: str
    used: str
    cache: tuple[str, str]


_V1 = _Version(
    "sys/fs/cgroup/memory",
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_active_file", "total_inactive_file"),
)
_V2 = _Version("sys/fs/cgroup", "memory.max", "memory.current", ("active_file", "inactive_file"))


def free_bytes(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> int:
    """The least of what is free on the node, in each control group that holds this process, and of SLURM's share.

    Where the system does not tell, a large number.

    Args:
        root: where ``proc`` and ``sys`` are.
        environment: of the process.
    """
    free = [*_of_node(root), *_of_groups(root), *_of_job(root, environment)]
    return max(0, min(free, default=_UNKNOWN))


def _of_node(root: Path) -> Iterator[int]:
    available = _lines(root / "proc/meminfo").get("MemAvailable")
    if available is not None:
        yield available * _KIB


def _of_groups(root: Path) -> Iterator[int]:
    """What is left of the limit of this process's group, and of each above it that has one."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version = _V1 if controllers else _V2
        # A group outside of this process's view of the tree begins with "..".
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            folder = root.joinpath(version.mount, *parts[:depth])
            limit, used = _number(_text(folder / version.limit)), _number(_text(folder / version.used))
            if limit is not None and used is not None:
                counts = _lines(folder / "memory.stat")
                yield limit - used + sum(counts.get(name, 0) for name in version.cache)


def _of_job(root: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """What SLURM gives the job on this node, in MiB, but for what this process has taken; 0 stands for all there is."""
    share = _number(environment.get("SLURM_MEM_PER_NODE", ""))
    if share is None:
        per_cpu = _number(environment.get("SLURM_MEM_PER_CPU", ""))
        cpus = _number(environment.get("SLURM_CPUS_ON_NODE", ""))
        share = per_cpu * cpus if per_cpu is not None and cpus is not None else None
    if share:
        yield share * _MIB - _lines(root / "proc/self/status").get("VmRSS", 0) * _KIB


def _lines(path: Path) -> dict[str, int]:
    """The lines ``name: number unit`` or ``name number`` of a file."""
    words = [line.replace(":", " ").split() for line in _text(path).splitlines()]
    return {word[0]: int(word[1]) for word in words if len(word) > 1 and _number(word[1]) is not None}


def _number(text: str) -> int | None:
    """A whole number; None for anything else, such as the ``max`` of a group without a limit."""
    return int(text) if text.strip().isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
