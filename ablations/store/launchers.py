"""Launchers at work on this or another machine: each says in ``launchers/<id>.json`` which stages it needs.

A claim shows what is worked on at this moment. A launcher also needs the stages that it has not begun, and those that
are done and will be read: nothing of them may be deleted while it lives.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ablations.files import create_json
from ablations.json_shapes import fields, listing, optional, read_shaped, text
from ablations.store.owner import Owner
from qsd.run_store import names_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from ablations.store.artefacts import Store

FOLDER = "launchers"


@contextmanager
def announced(store: Store, keys: Iterable[str], sweep: str) -> Iterator[None]:
    """Let others know for as long as the block lasts that this process runs ``sweep`` and needs the stages ``keys``."""
    folder = store.root / FOLDER
    for path, owner, _, _ in list(_read(folder)):
        if owner.is_dead():
            path.unlink(missing_ok=True)
    mine = folder / f"{secrets.token_hex(8)}.json"
    # As a claim is made, so a disk on which that is impossible is reported before anything runs.
    create_json(mine, {"owner": Owner.here().fields(), "keys": sorted(keys), "sweep": sweep})
    try:
        yield
    finally:
        mine.unlink(missing_ok=True)


def needed(store: Store) -> frozenset[str]:
    """The keys of all stages that launchers need which may be alive."""
    return frozenset(key for _, owner, keys, _ in _read(store.root / FOLDER) if not owner.is_dead() for key in keys)


def launchers_of(store: Store, sweep: str) -> list[Owner]:
    """The launchers that may be alive of a sweep, given as ``sweep@experiment`` with its settings (``Plan.name``)."""
    return [owner for _, owner, _, of in _read(store.root / FOLDER) if of == sweep and not owner.is_dead()]


def _read(folder: Path) -> Iterator[tuple[Path, Owner, list[str], str]]:
    """File, process, stages and sweep of each; the sweep is empty in files of earlier versions."""
    for name in sorted(names_in(folder)):
        content = read_shaped(folder / name, fields(keys=listing(text), sweep=optional(text)))
        if content is None:  # it has just ended, or this is no file of ours
            continue
        with suppress(ValueError):
            yield folder / name, Owner.of(content.get("owner")), content["keys"], content.get("sweep") or ""
