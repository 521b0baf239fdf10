"""What a process prints, as a file, and its last lines."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import io
    from pathlib import Path

_TAIL_BYTES = 16_384


def log_to(path: Path) -> None:
    """Send standard output and error of this process, C libraries included, to ``path``, in UTF-8.

    Whatever the console's encoding is, a caption or a path that a stage prints must not end it.
    """
    streams = [cast("io.TextIOWrapper", stream) for stream in (sys.stdout, sys.stderr)]
    for stream in streams:
        stream.flush()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    # Only now: it asks for the position in the file, and a stream that began as a file may have become a pipe.
    for stream in streams:
        if hasattr(stream, "reconfigure"):  # not a test's stream
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a file, read from its end; carriage returns (progress bars) leave only the last state."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _TAIL_BYTES))
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line.rpartition("\r")[2] for line in text.rstrip().split("\n")[-lines:]] if text.strip() else []
