"""Snapshots: the code that a launch runs, kept so that edits in the work tree do not reach queued jobs.

``runs/snapshots/<id>/`` holds the tracked files of the packages and what else their code needs, ``origin.json``
(commit, whether there were changes, digests of the untracked files), ``diff.patch`` (the changes of the packages since
that commit) and ``environment.txt`` (Python and every installed distribution). The id is a hash of all that, so the
same code in the same environment is one folder however often it is launched. A process that runs from it has it first
on ``PYTHONPATH`` and starts Python with ``-P``.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ablations.secret_scan import named_secret, secret_in
from ablations.store.provenance import ORIGIN, git, git_text
from qsd.errors import UserError
from qsd.files import atomic_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ablations.store.artefacts import Store

PACKAGES = ("qsd", "ablations", "analysis")
CODE = Path(__file__).resolve().parents[2]
"""The folder that holds the packages that run now."""
DIFF, ENVIRONMENT = "diff.patch", "environment.txt"
_CODE_ENDINGS = frozenset({".py", ".typed"})
"""Files that are taken although git does not know them; others only if the code has their name."""
_MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Snapshot:
    """A snapshot in a store.

    Attributes:
        id: hash of its content.
        path: its folder.
        warnings: what was left out, one line each.
    """

    id: str
    path: Path
    warnings: tuple[str, ...] = ()


@dataclass
class _Content:
    """Name -> bytes of every file to be written."""

    files: dict[str, bytes] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def id(self) -> str:
        total = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            total.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
        return total.hexdigest()[:16]


def planned(root: Path, store: Store) -> Snapshot:
    """What :func:`take` would return now; nothing is written. Raises like it."""
    content = _content(root)
    identity = content.id()
    return Snapshot(identity, store.root.resolve() / "snapshots" / identity, tuple(content.warnings))


def take(root: Path, store: Store) -> Snapshot:
    """Copy the packages below ``root`` into the store, unless the same are there.

    Raises:
        UserError: a package is missing, or its code seems to hold a key.
    """
    content = _content(root)
    identity = content.id()
    final = store.root.resolve() / "snapshots" / identity
    if not final.is_dir():
        _write(final, content.files)
    return Snapshot(identity, final, tuple(content.warnings))


def _content(root: Path) -> _Content:
    content = _Content()
    tracked, untracked = _listed(root)
    taken: list[str] = []
    needed = _needed(root, tracked, untracked)
    for name in sorted({*tracked, *untracked}):
        reason = _unfit(root, name, name in untracked and name not in needed)
        if reason is None:
            content.files[name] = (root / name).read_bytes()
            taken.append(name)
        elif reason:
            content.warnings.append(f"{name}: {reason}; it is not in the snapshot")
    for package in PACKAGES:
        if f"{package}/__init__.py" not in content.files:
            raise UserError(f"{root / package}: no such package; run from the project's folder")
    patch, changed = _patch(root, content)
    added = [name for name in taken if name in untracked]
    origin = {
        "commit": git_text(root, "rev-parse", "HEAD") if tracked else None,
        "dirty": bool(changed) or (bool(tracked) and any(name.endswith(".py") for name in added)),
        "untracked": {name: hashlib.sha256(content.files[name]).hexdigest()[:16] for name in added},
    }
    content.files[ORIGIN] = (json.dumps(origin, indent=1) + "\n").encode()
    content.files[DIFF] = patch
    content.files[ENVIRONMENT] = _environment().encode()
    return content


def _listed(root: Path) -> tuple[set[str], set[str]]:
    """Tracked and untracked files of the packages; without git all that there are count as untracked."""
    tracked = _git_names(root, "ls-files", "--cached")
    if tracked:
        return tracked, _git_names(root, "ls-files", "--others", "--exclude-standard")
    return set(), {path.relative_to(root).as_posix() for package in PACKAGES for path in _walk(root / package)}


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def _needed(root: Path, tracked: set[str], untracked: set[str]) -> set[str]:
    """The untracked files that the code may need: modules, and files whose name stands in a module.

    Notes, logs and settings of a person's own lie in work trees too, with passwords among them.
    """
    modules = {name for name in {*tracked, *untracked} if name.endswith(".py")}
    others = {name: PurePosixPath(name).name.encode() for name in untracked - modules}
    code = [(root / name).read_bytes() for name in sorted(modules) if (root / name).is_file()] if others else []
    return {
        name
        for name in untracked
        if PurePosixPath(name).suffix in _CODE_ENDINGS or any(others[name] in text for text in code)
    }


def _unfit(root: Path, name: str, unneeded: bool) -> str | None:
    """Why a file is not taken: "" is not worth a mention, None means that it is.

    Raises:
        UserError: code with a key in it; without the file the code would not run.
    """
    path = root / name
    if not path.is_file() or unneeded:
        return ""
    if named_secret(path.name):
        return "its name is one for keys"
    if not path.resolve().is_relative_to(root.resolve()):
        return "it is a link out of the project"
    if path.stat().st_size > _MOST_BYTES:
        return f"it is larger than {_MOST_BYTES // 2**20} MB"
    secret = secret_in(path.read_bytes())
    if secret and path.suffix == ".py":
        raise UserError(f"{name}: seems to hold {secret}; move it to an environment variable before launching")
    return f"seems to hold {secret}" if secret else None


def _patch(root: Path, content: _Content) -> tuple[bytes, set[str]]:
    """What changed in tracked files since the commit, and their names; no change in which a key can be seen."""
    changed = _git_names(root, "diff", "HEAD", "--name-only")
    parts = []
    for name in sorted(changed):
        part = git(root, "diff", "HEAD", "--binary", "--no-color", "--no-ext-diff", "--", name) or b""
        if named_secret(PurePosixPath(name).name) or secret_in(part):
            content.warnings.append(f"{name}: its changes seem to hold a key; they are not in {DIFF}")
        else:
            parts.append(part)
    return b"".join(parts), changed


def _environment() -> str:
    packages = {f"{each.metadata['Name']}=={each.version}" for each in metadata.distributions()}
    return "\n".join([f"python=={platform.python_version()}", *sorted(packages, key=str.lower)]) + "\n"


def _write(final: Path, files: dict[str, bytes]) -> None:
    """Put the folder in place in one step; of two launchers that do so at once, the first one's stays."""
    with atomic_folder(final) as folder:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o444)


def _git_names(root: Path, *arguments: str) -> set[str]:
    output = git(root, *arguments, "-z", "--", *PACKAGES)
    return {os.fsdecode(name) for name in (output or b"").split(b"\0") if name}
