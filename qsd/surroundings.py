"""What surrounds a command and is no mistake in it: closed or narrow output, full disks, folders of another user."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import io

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_IN_THE_WAY = {errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.ELOOP, errno.EEXIST}
_FAULTY = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EREMOTEIO}
_REMEDIES = {
    errno.ENAMETOOLONG: "the name of a file is made of it: choose a shorter one for the sweep, the experiment or the "
    "folder",
    errno.EMFILE: "this user may not open more at once: raise the limit (ulimit -n), or run less at a time (--jobs)",
    errno.ENFILE: "this machine has no more open files to give: run less at a time (--jobs)",
    errno.EAGAIN: "this user may not have more processes: raise the limit (ulimit -u), or run less at a time (--jobs)",
    errno.ENOMEM: "this machine has no memory left: run less at a time (--jobs)",
}
_STREAMS = {0: "stdin", 1: "stdout", 2: "stderr"}


def explained(error: OSError) -> str | None:
    """What a failed access means for the user, with the remedy, in one line; None for an error of another kind."""
    if error.errno not in _FULL | _FORBIDDEN | _IN_THE_WAY | _FAULTY | _REMEDIES.keys():
        return None
    # Of a renaming the second name is the one that a person knows.
    name = error.filename2 or error.filename
    place = f"{_shown(name)}: " if isinstance(name, str | bytes | os.PathLike) else ""
    text = f"{place}{error.strerror or os.strerror(error.errno or 0)}"
    if error.errno in _REMEDIES:
        return f"{text}; {_REMEDIES[error.errno]}"
    if error.errno in _IN_THE_WAY:
        return f"{text}; something else is in the place of a file or folder: move it away and try again"
    if error.errno in _FAULTY:
        return f"{text}; the disk or the server behind it has a fault: run the same command again when it answers"
    if error.errno in _FULL:
        return (
            f"{text}; free space ('ablate gc' lists what can be deleted) or choose another folder for results "
            "(--runs or ABLATE_RUNS), and run the same command again"
        )
    return f"{text}; change its permissions, or choose another folder for results (--runs or ABLATE_RUNS)"


def _shown(name: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> str:
    """The place that a person knows: not the temporary name under which a file is written."""
    path = Path(os.fsdecode(name))
    return str(path.parent if path.name.startswith(".") and path.name.endswith(".tmp") else path)


def open_closed_streams() -> None:
    """Connect standard streams that were closed to nothing.

    Otherwise the next file or socket that is opened gets their number, and whatever a library prints goes into it.
    """
    for number, name in _STREAMS.items():
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def widen_streams() -> None:
    r"""Let a console that has not all characters show the others as ``\u2020`` instead of failing."""
    for stream in (cast("io.TextIOWrapper", sys.stdout), cast("io.TextIOWrapper", sys.stderr)):
        if hasattr(stream, "reconfigure") and (stream.errors == "strict" or stream.encoding.lower() != "utf-8"):
            stream.reconfigure(errors="backslashreplace")
