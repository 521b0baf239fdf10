"""A training that is stopped where a test wants it, and the artefact that it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


class StoppedError(Exception):
    """Stands for a kill."""


def stop_after(count: int) -> object:
    """A report that stops the stage when so many units are done."""

    def report(done: int, total: int, unit: str) -> None:
        if done == count:
            raise StoppedError

    return report


def files(folder: Path) -> dict[str, bytes]:
    """The artefact: everything but the resumable state, and the list of files that a single command leaves."""
    left_out = {".state", ".qsd.json"}
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and not left_out & set(path.parts))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
