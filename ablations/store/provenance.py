"""Where an attempt ran: machine, code and library versions. Kept beside logs, never in artefacts."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ablations.files import read_json
from ablations.secret_scan import url_with_password
from qsd.own_members import FOLDER

ORIGIN = "origin.json"
"""In a snapshot: the commit it was taken from, whether anything had changed since, and the untracked files in it."""
PYTHON_FOLDERS = ("qsd", "ablations", "analysis", "experiments", FOLDER.as_posix())
"""Folders of a work tree in which an untracked Python file may be part of the code that runs."""
_LIBRARIES = ("torch", "diffusers", "transformers", "peft", "open_clip_torch", "numpy", "pyarrow", "pillow")
_SHOWN = (
    "CUDA_VISIBLE_DEVICES",
    "OMP_DYNAMIC",
    "OMP_NUM_THREADS",
    "OMP_PLACES",
    "OMP_PROC_BIND",
    "OMP_SCHEDULE",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_CLUSTER_NAME",
    "SLURM_CPUS_ON_NODE",
    "SLURM_CPUS_PER_TASK",
    "SLURM_GPUS_ON_NODE",
    "SLURM_JOB_CPUS_PER_NODE",
    "SLURM_JOB_GPUS",
    "SLURM_JOB_ID",
    "SLURM_JOB_NAME",
    "SLURM_JOB_NODELIST",
    "SLURM_JOB_NUM_NODES",
    "SLURM_JOB_PARTITION",
    "SLURM_JOB_QOS",
    "SLURM_LOCALID",
    "SLURM_MEM_PER_CPU",
    "SLURM_MEM_PER_NODE",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_RESTART_COUNT",
)
"""The variables that attempts record; sites and users put addresses and keys into others."""


def code_state(root: Path, snapshot: str) -> dict[str, Any]:
    """As :func:`git_state`, for the snapshot that runs if there is one: the work tree may have changed since.

    Own members are in no snapshot, so those of the work tree count.
    """
    here = git_state(root)
    origin = read_json(Path(snapshot) / ORIGIN) if snapshot else None
    if not isinstance(origin, dict):
        return here
    own = {name: mark for name, mark in here["untracked"].items() if Path(name).is_relative_to(FOLDER)}
    changes = git_text(root, "status", "--porcelain", "--untracked-files=no", "--", str(FOLDER))
    return {
        "commit": origin["commit"],
        "dirty": bool(origin["dirty"] or changes or own),
        "untracked": {**origin["untracked"], **own},
    }


@cache
def git_state(root: Path) -> dict[str, Any]:
    """The code of a work tree, as far as git knows it.

    "commit": hash, None outside a repository; "untracked": path -> digest of the Python files in
    :data:`PYTHON_FOLDERS` that git does not know and does not ignore; "dirty": True with any of those, or with
    uncommitted changes of tracked files.
    """
    commit = git_text(root, "rev-parse", "HEAD")
    changes = git_text(root, "status", "--porcelain", "--untracked-files=no")
    listed = git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *PYTHON_FOLDERS) or b""
    names = sorted(os.fsdecode(name) for name in listed.split(b"\0") if name.endswith(b".py"))
    untracked = {name: file_mark(root / name) for name in names}
    return {"commit": commit, "dirty": bool(changes or untracked), "untracked": untracked}


def file_mark(path: Path) -> str:
    """The first 16 hex digits of the SHA-256 of a file's bytes; "unreadable" where they cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    except OSError:
        return "unreadable"


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results may depend on; read without importing them."""
    versions_by_name = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions_by_name[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions_by_name


def slurm_job() -> dict[str, Any] | None:
    """{"job": "123_4" of an array or "123", "restarts", "node", "cluster"} if this process is part of a SLURM job."""
    array, element = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{element}" if array and element else os.environ.get("SLURM_JOB_ID")
    if not job:
        return None
    restarts = os.environ.get("SLURM_RESTART_COUNT", "")
    return {
        "job": job,
        "restarts": int(restarts) if restarts.isdecimal() else 0,
        "node": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        "cluster": os.environ.get("SLURM_CLUSTER_NAME", ""),
    }


def environment() -> dict[str, str]:
    """The environment variables of a fixed list that decide where and how a process runs, as far as they are set."""
    values = {name: os.environ[name] for name in _SHOWN if name in os.environ}
    return {name: value for name, value in values.items() if not url_with_password(value)}


def git_text(root: Path, *arguments: str) -> str | None:
    """What git prints, without white space around it; None where it fails."""
    output = git(root, *arguments)
    return None if output is None else output.decode().strip()


def git(root: Path, *arguments: str) -> bytes | None:
    """What git prints in the folder ``root``; None where there is no git or no repository, or where it fails."""
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
