"""JSON files of a run store; how they are written and read is in ``qsd.files``."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from qsd.errors import UserError
from qsd.files import create_bytes, json_bytes, numbered, read_json, write_bytes

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["create_json", "numbered", "read_json", "write_json"]

_INDENT = 1
"""A store holds tens of thousands of these files. Records of equal stages are equal bytes, so it must not change."""

_WITHOUT_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


def write_json(path: Path, value: Any) -> None:
    """Replace the file at ``path`` by ``value`` as JSON in one step; its folder is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, json_bytes(value, _INDENT))


def create_json(path: Path, value: Any) -> bool:
    """Create the file at ``path``, and its folder if missing; False if another process was quicker.

    Raises:
        UserError: the disk has no hard links, which make sure that one process alone creates it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return create_bytes(path, json_bytes(value, _INDENT))
    except OSError as error:
        # Of a link alone: a file that may not be written has no second name yet.
        if error.filename2 is None or error.errno not in _WITHOUT_LINKS:
            raise
        raise UserError(
            f"{path.parent}: this disk has no hard links ({error.strerror}), by which processes agree who works on a "
            "stage; choose a folder on another disk for results (--runs or ABLATE_RUNS)"
        ) from None
