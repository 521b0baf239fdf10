"""Where an attempt ran: machine, code and library versions. Kept beside logs, never in artefacts."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_LIBRARIES = ("torch", "diffusers", "transformers", "peft", "open_clip_torch", "numpy", "pyarrow", "pillow")


@cache
def git_state(root: Path) -> dict[str, Any]:
    """{"commit": hash or None outside a repository, "dirty": True with uncommitted changes of tracked files}."""
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changes)}


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results may depend on; read without importing them."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
