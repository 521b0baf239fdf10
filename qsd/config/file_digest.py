"""Digests of whole files; those of large files are remembered from one process to the next.

What is remembered only saves time: it is found by where a file is, its size, inode and times, and is given up as soon
as one of these differs. It is never part of a key.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

REMEMBERED_BYTES = 256 * 1024 * 1024
"""Smaller files are read each time: reading them takes less than a second."""
_NOTED_BYTES = 4 * 1024**3
"""From this size on, the terminal shows what is read."""
_SETTLED_S = 2.0
"""A file that was changed so recently may change again without another time: some disks keep only whole seconds."""


def file_digest(path: Path) -> str:
    """The first 32 hex digits (128 bits) of the SHA-256 of all bytes of a file.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    if status.st_size <= REMEMBERED_BYTES:
        return _read(path)
    note = _folder() / _name(path, status)
    with suppress(OSError):
        content = note.read_text(encoding="ascii")
        if len(content) == 32:
            return content
    if status.st_size > _NOTED_BYTES:
        size = f"{status.st_size / 1024**3:.0f} GB"
        print(f"note: reading {path} ({size}) for its digest, once until it changes", file=sys.stderr, flush=True)
    begin = time.time()
    content = _read(path)
    if _name(path, path.stat()) == note.name and begin - max(status.st_mtime, status.st_ctime) > _SETTLED_S:
        _remember(note, content)
    return content


def _read(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]


def _name(path: Path, status: os.stat_result) -> str:
    """Under which a file is remembered. ``ctime`` also moves when a program sets ``mtime`` back."""
    place = (str(path.resolve()), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return hashlib.sha256(repr(place).encode(errors="surrogateescape")).hexdigest()[:32]


def _folder() -> Path:
    """Of the digests that this user's processes remember; it may be deleted at any time."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path(os.path.expanduser("~")) / ".cache") / "qsd" / "digests"  # noqa: PTH111


def _remember(note: Path, content: str) -> None:
    """Keep a digest; where that is not possible, the file is read again by the next process."""
    temporary = note.with_name(f".{note.name}.{os.getpid()}")
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(content, encoding="ascii")
        temporary.replace(note)
