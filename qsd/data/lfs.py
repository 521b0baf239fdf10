"""Files that a clone without git-lfs leaves: a few lines of text in place of the content."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_BEGIN = b"version https://git-lfs.github.com/spec/"


def is_pointer(content: bytes) -> bool:
    """True if a file that begins with ``content`` is a git-lfs pointer."""
    return content.startswith(_BEGIN)


def pointer_hint(path: Path) -> str:
    """What to say of a file that cannot be read because it is a git-lfs pointer; empty if it is none."""
    if not path.is_file():  # reading a pipe would wait for ever
        return ""
    try:
        with path.open("rb") as stream:
            content = stream.read(len(_BEGIN))
    except OSError:
        return ""
    return (
        "a git-lfs pointer instead of the file; run 'git lfs pull' where it was cloned" if is_pointer(content) else ""
    )
