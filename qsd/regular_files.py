"""Files that people name are read only if they are files: a pipe is waited for without end, a device has no end."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from qsd.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def check_regular(path: Path) -> None:
    """Refuse a pipe, a device and a socket; of what is missing or a folder, reading says so itself.

    Raises:
        UserError: with what there is in place of a file.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # the second: NUL in the name
        return
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), None)
    if kind is not None:
        raise UserError(f"{path}: {kind}, not a file; write its content to a file and name that")


def read_regular(path: Path) -> bytes:
    """The content of a file.

    Raises:
        UserError: as :func:`check_regular`.
        OSError: it cannot be read.
    """
    check_regular(path)
    return path.read_bytes()
