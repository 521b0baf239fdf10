"""Which reader fits a path, for commands that are told none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.data.readers import REGISTRY
from qsd.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from qsd.data.source import PairSource


def open_path(path: Path, reader: str | None = None) -> tuple[str, PairSource]:
    """The reader's name and the opened source; without ``reader``, the one that recognises the path.

    Raises:
        UserError: nothing there, not readable, or no reader or several recognise it.
    """
    name = reader or _recognised(path)
    return name, REGISTRY.get(name).open(path)


def _recognised(path: Path) -> str:
    if not path.exists():
        # Pick-a-Pic's reader knows names on the hub, and says what to do.
        return "pickapic"
    names = [name for name in REGISTRY.names() if REGISTRY.get(name).recognises(path)]
    if len(names) == 1:
        return names[0]
    known = ", ".join(REGISTRY.names())
    if names:
        raise UserError(f"{path}: readable as {' or '.join(names)}; say which with --reader")
    lists = sorted(file.name for file in path.glob("*") if file.suffix in {".json", ".csv"}) if path.is_dir() else []
    hint = f"; did you mean a file in it ({', '.join(lists[:4])})?" if lists else ""
    raise UserError(f"{path}: in no layout that is known ({known}){hint or '; docs/data.md shows them'}")
