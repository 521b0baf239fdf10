"""Checks of this machine: Python, packages, GPU, disk, W&B. They only read and change nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.checks.doctor import FAIL, OK, WARN, Finding
from ablations.formatting import format_bytes
from ablations.tracking.destination import has_login, host
from qsd.config.check import schema_fields
from qsd.config.members import BROKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST, TOO_NEW = (3, 11), (3, 14)
LOCK = Path("requirements.lock")
_RENEW = "run 'make demo' or any other make target: it updates .venv from requirements.lock"
_LITTLE_DISK = 10e9
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)")
_SHOWN = 5


def python() -> Iterator[Finding]:
    """The version of Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    supported = OLDEST <= sys.version_info[:2] < TOO_NEW
    yield Finding(
        OK if supported else FAIL, "python", version, "" if supported else f"use Python 3.11, 3.12 or 3.13; {_RENEW}"
    )


def packages(lock: Path = LOCK) -> Iterator[Finding]:
    """Compare installed packages with the lock; a locked package that is not installed is for another platform."""
    if not lock.is_file():
        yield Finding(WARN, "packages", f"{lock} is not in this folder", "run ablate in the project's folder")
        return
    locked: dict[str, set[str]] = {}
    for match in map(_PINNED.match, lock.read_text(encoding="utf-8").splitlines()):
        if match:
            locked.setdefault(_normal(match[1]), set()).add(match[2])
    installed = {_normal(distribution.name): distribution.version for distribution in metadata.distributions()}
    present = sorted(set(locked) & set(installed))
    mismatched = [
        f"{name} {installed[name]}" for name in present if installed[name].partition("+")[0] not in locked[name]
    ]
    if mismatched:
        examples = ", ".join(mismatched[:_SHOWN]) + (", ..." if len(mismatched) > _SHOWN else "")
        yield Finding(WARN, "packages", f"{len(mismatched)} differ from the version in {lock}: {examples}", _RENEW)
    else:
        yield Finding(OK, "packages", f"{len(present)} have the versions in {lock}")


def members() -> Iterator[Finding]:
    """Losses and selection strategies whose files are broken, and so are not there to be chosen; silent if none is."""
    schema_fields()  # reads the files
    for text in BROKEN:
        yield Finding(WARN, "members", text)


def gpu(with_torch: bool) -> Iterator[Finding]:
    """GPUs that nvidia-smi lists, and with ``with_torch`` those that PyTorch finds; importing it takes seconds."""
    output = _output("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    names = [name.strip() for name in (output or "").splitlines() if name.strip()]
    if names:
        yield Finding(OK, "gpu", "; ".join(names))
    else:
        yield Finding(WARN, "gpu", "nvidia-smi lists none", "without a GPU stages run on the CPU, or use --cluster")
    if with_torch:
        import torch

        if torch.cuda.is_available():
            yield Finding(OK, "torch", f"PyTorch {torch.__version__} sees {torch.cuda.device_count()} GPUs")
        else:
            fix = "check the driver, and that PyTorch was built for its CUDA version" if names else ""
            yield Finding(FAIL if names else WARN, "torch", f"PyTorch {torch.__version__} sees no GPU", fix)


def disk(runs: Path, needed: float | None) -> Iterator[Finding]:
    """Free space below ``runs`` and permission to write; ``needed``: bytes that a plan is estimated to write."""
    place = runs.resolve()
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        yield Finding(FAIL, "disk", f"{place} cannot be written", "choose another folder with --runs or ABLATE_RUNS")
        return
    free = shutil.disk_usage(place).free
    text = f"{format_bytes(free)} free for {runs}"
    if needed is not None:
        text += f", about {format_bytes(needed)} needed"
    fix = "free space ('ablate gc' lists what can be deleted), or choose another folder with --runs or ABLATE_RUNS"
    if needed is not None and free < needed:
        yield Finding(FAIL, "disk", text, fix)
    elif free < 2 * (needed if needed is not None else _LITTLE_DISK / 2):
        yield Finding(WARN, "disk", text, fix)
    else:
        yield Finding(OK, "disk", text)


def wandb(mode: str) -> Iterator[Finding]:
    """Whether W&B can do what ``tracking.wandb`` asks for. It reports whether there is a key, never the key."""
    if mode == "disabled":
        yield Finding(OK, "wandb", "disabled")
        return
    try:
        version = metadata.version("wandb")
    except metadata.PackageNotFoundError:
        yield Finding(WARN, "wandb", f"tracking.wandb is {mode}, but wandb is not installed", _RENEW)
        return
    if mode == "offline":
        yield Finding(OK, "wandb", f"offline, wandb {version}; nothing is uploaded")
    elif has_login():
        yield Finding(OK, "wandb", f"online, wandb {version}, logged in")
    else:
        fix = "run 'wandb login', or set tracking.wandb: offline in the experiment"
        yield Finding(FAIL, "wandb", f"tracking.wandb is online, but there is no login for {host()}", fix)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
