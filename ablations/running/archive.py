"""Keep the tables that a sweep had before its cells changed: ``runs/sweeps/<sweep>@<experiment>/earlier/<key>/``.

The key is the UTC time of the table and eight digits of a hash of its cells, as in ``20260102-030405-0a1b2c3d``. A set
is copied to a temporary name and renamed before its originals are removed, so a kill loses nothing.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ablations.files import read_json
from qsd.config.digest import hash_of

if TYPE_CHECKING:
    from pathlib import Path

CELLS = "cells.json"
EARLIER = "earlier"
_TABLES = ("table.csv", "table.md")
_STAYS = (EARLIER, "wandb", "wandb.log")
"""W&B's files are of all cells that the sweep ever had."""
_SELF_DESCRIPTION = (CELLS, "settings.json", "tables.lock.json", "run.json")
"""Files that change with a commit or another attempt, although the results are the same."""
_DIGITS = 8


def keep_earlier(folder: Path, content: Any) -> Path | None:
    """Move a sweep's tables and pictures into ``earlier/`` if they are about other cells than ``content``.

    Args:
        folder: the sweep's folder.
        content: the ``cells.json`` that is about to be written there.

    Returns:
        Where they are now; None if there was no table, or if it is about the same cells.
    """
    table = next((folder / name for name in _TABLES if (folder / name).is_file()), None)
    before = _identity(read_json(folder / CELLS))
    if table is None or before == _identity(content):
        return None
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".") and path.name not in _STAYS]
    try:
        moment = datetime.fromtimestamp(table.stat().st_mtime, UTC)
        kept = _kept(folder, names, before) or _copy(folder, names, f"{moment:%Y%m%d-%H%M%S}-{before}")
    except FileNotFoundError:  # another launcher has kept the same set, and removes its originals
        return None
    for name in names:
        _remove(folder / name)
    return kept


def _identity(content: Any) -> str:
    """Equal for equal cells (ids, seeds, roles, stages; whatever state, order and names) with the same primary scorer.

    The primary scorer and split decide what is marked, so a table that another choice marked is another table. A sweep
    that adds seeds in looks is the same from its first look to its last, one whose cells are tuned from its first trial
    on.
    """
    try:
        cells = [[cell[name] for name in ("cell_id", "seed", "role", "is_baseline")] for cell in content["cells"]]
        stages = [sorted(cell["stages"].items()) for cell in content["cells"]]
    except (KeyError, TypeError, AttributeError):
        return hash_of("no list of cells")[:_DIGITS]
    listed = sorted([*cell, of_cell] for cell, of_cell in zip(map(str, cells), stages, strict=True))
    primary, grown = content.get("primary") or {}, content.get("tuning") or content.get("looks")
    about = grown["grid"] if grown else listed
    return hash_of([primary.get("scorer"), primary.get("split"), about])[:_DIGITS]


def _kept(folder: Path, names: list[str], identity: str) -> Path | None:
    """Where the same set was kept before, as when two lists of seeds are looked at in turns."""
    present = _contents(folder, names)
    for earlier in sorted((folder / EARLIER).glob(f"*-{identity}*")):
        if _contents(earlier, names) == present:
            return earlier
    return None


def _contents(folder: Path, names: list[str]) -> dict[str, bytes]:
    """Relative name -> content of the tables and pictures."""
    contents: dict[str, bytes] = {}
    for name in set(names) - set(_SELF_DESCRIPTION):
        for path in (folder / name, *(folder / name).rglob("*")):
            if path.is_file():
                contents[path.relative_to(folder).as_posix()] = path.read_bytes()
    return contents


def _copy(folder: Path, names: list[str], key: str) -> Path | None:
    """Where the set is now; None if another launcher has moved all of it away meanwhile."""
    temporary = folder / EARLIER / f".{key}.{secrets.token_hex(4)}"
    temporary.mkdir(parents=True)
    try:
        for name in names:
            # Another launcher keeps the same set at this moment, and has begun to remove the originals.
            with contextlib.suppress(FileNotFoundError, shutil.Error):
                if (folder / name).is_dir():
                    shutil.copytree(folder / name, temporary / name)
                else:
                    shutil.copy2(folder / name, temporary / name)
        number = 0
        while any(temporary.iterdir()):
            kept = folder / EARLIER / (f"{key}-{number}" if number else key)
            try:
                if not kept.exists():
                    return temporary.rename(kept)
            except OSError:  # another launcher was quicker
                if not kept.exists():
                    raise
            number += 1
        return None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
