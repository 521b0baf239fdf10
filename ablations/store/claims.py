"""Claims: at any time at most one process works on a stage, also when many launchers race on a shared disk.

A claim is the highest numbered file in ``claims/<key>/``; it names its owner. Taking over from an owner that is
provably dead, or that has released its claim, is creating the next number, which only one process can do. No number is
deleted before the stage is sealed, so a process with an old listing of a shared folder can not resurrect one.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.files import create_json, numbered, read_json, write_json
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
        write_json(self.path, {"released": True})  # the number stays: a deleted one could be created again

    def forget(self) -> None:
        """Remove all claims on a sealed stage. A process that claims it later finds it done."""
        shutil.rmtree(self.path.parent, ignore_errors=True)


class Claims:
    """All claims of a store. ``folder`` need not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def owner(self, key: str) -> Owner | None:
        """The owner that the claim on ``key`` names, dead or alive; None without a claim, or if it was released."""
        numbers = numbered(self.folder / key)
        return _owner_in(self.folder / key / str(numbers[-1])) if numbers else None

    def holder(self, key: str, query: Query | None = None) -> Owner | None:
        """The process that works on ``key`` now, as far as can be proven; None if there is none.

        ``query`` is as in :meth:`Owner.is_dead`; ``liveness.survey`` asks once for many keys.
        """
        owner = self.owner(key)
        return None if owner is None or owner.is_dead(query) else owner

    def take(self, key: str) -> Claim | None:
        """Claim ``key`` for this process; None if another process holds it or was quicker."""
        folder = self.folder / key
        numbers = numbered(folder)
        owner = _owner_in(folder / str(numbers[-1])) if numbers else None
        if owner is not None and not owner.is_dead():
            return None
        mine = (numbers[-1] if numbers else 0) + 1
        # Of all processes that saw the same dead owner, one can create the next number.
        if not _create(folder / str(mine)):
            return None
        if numbered(folder)[-1:] != [mine]:  # a process with a newer listing took a higher number meanwhile
            (folder / str(mine)).unlink(missing_ok=True)
            return None
        return Claim(folder / str(mine))


def _owner_in(path: Path) -> Owner | None:
    """The owner that a claim's file names; None if the claim was released or removed."""
    content = read_json(path)
    if content is None and not path.exists():  # the stage was sealed between the listing and the reading
        return None
    if isinstance(content, dict) and content.get("released") is True:
        return None
    try:
        return Owner.of(content.get("owner") if isinstance(content, dict) else None)
    except ValueError:
        return Owner.unreadable()


def _create(path: Path) -> bool:
    """Create the file of a claim of this process; False if another process was quicker."""
    try:
        return create_json(path, {"owner": Owner.here().fields()})
    except FileNotFoundError:  # the stage was sealed meanwhile, and all its claims were removed
        return False
