"""Claims: at any time at most one process works on a stage, also when many launchers race on a shared disk.

A claim is the highest numbered file in ``claims/<key>/``; it names its owner. Taking over from an owner that is
provably gone, or that has released its claim, is creating the next number, which only one process can do. No number is
deleted before the stage is sealed, so a process with an old listing of a shared folder can not resurrect one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.files import numbered, read_json, write_json
from ablations.store.owner import Owner

if TYPE_CHECKING:
    from pathlib import Path

    from ablations.store.owner import Query


@dataclass(frozen=True)
class Claim:
    """A claim held by this process."""

    path: Path

    def release(self) -> None:
        """Let others claim the stage again."""
        write_json(self.path, {"released": True})

    def forget(self) -> None:
        """Remove every trace of claims on a sealed stage. Who claims it later finds it done."""
        shutil.rmtree(self.path.parent, ignore_errors=True)


class Claims:
    """All claims of a store. ``folder`` need not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def owner(self, key: str) -> Owner | None:
        """The owner that the claim on ``key`` names, gone or not; None without a claim, or if it was released."""
        numbers = numbered(self.folder / key)
        return _named(self.folder / key / str(numbers[-1])) if numbers else None

    def holder(self, key: str, query: Query | None = None) -> Owner | None:
        """The owner that works on ``key`` now, as far as can be proven; None if nobody does.

        ``query`` is as in :meth:`Owner.is_dead`; who asks for many keys should ask the scheduler once for all.
        """
        owner = self.owner(key)
        return None if owner is None or owner.is_dead(query) else owner

    def take(self, key: str) -> Claim | None:
        """Claim ``key`` for this process; None if another process holds it or was quicker."""
        folder = self.folder / key
        numbers = numbered(folder)
        owner = _named(folder / str(numbers[-1])) if numbers else None
        if owner is not None and not owner.is_dead():
            return None
        mine = (numbers[-1] if numbers else 0) + 1
        if not _create(folder / str(mine)):
            return None
        if numbered(folder)[-1:] != [mine]:  # a slower look than another's: it took a higher number meanwhile
            (folder / str(mine)).unlink(missing_ok=True)
            return None
        return Claim(folder / str(mine))


def _named(path: Path) -> Owner | None:
    content = read_json(path)
    if content is None and not path.exists():
        return None
    if isinstance(content, dict) and content.get("released") is True:
        return None
    try:
        return Owner.of(content["owner"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        return Owner("an unreadable claim", "", "", -1, -1)


def _create(path: Path) -> bool:
    """Create the claim with its whole content at once: a hard link fails if the name exists, also on NFS.

    The count of links tells who made it: an NFS client that repeats a request may hear "exists" of its own link.
    """
    aside = path.with_name(f".{secrets.token_hex(8)}")
    with contextlib.suppress(FileNotFoundError):  # the stage was sealed meanwhile
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(aside, {"owner": Owner.here().fields()})
        try:
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
            return aside.stat().st_nlink == 2
        finally:
            aside.unlink(missing_ok=True)
    return False
