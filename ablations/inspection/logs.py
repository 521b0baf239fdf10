"""Reading the log of a stage, also while it is being written."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ablations.store.attempts import LOG, latest, outcome
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ablations.grid.expand import Cell
    from ablations.grid.keys import StageNode
    from ablations.store.artefacts import Store

_POLL_S = 0.5


def stage_to_read(cell: Cell, store: Store, stage: str | None) -> StageNode:
    """The stage of a cell whose log to show: the named one, or else the last one that was tried.

    Raises:
        UserError: the cell has no such stage, or no stage of it was tried.
    """
    if stage is not None:
        if stage not in cell.stages:
            raise UserError(f"{cell.label} has no stage {stage!r}; it has {', '.join(cell.stages)}")
        if latest(store, stage, cell.stages[stage].key) is None:
            raise UserError(f"{stage} of {cell.label} has no attempt in this store; 'ablate explain' shows its state")
        return cell.stages[stage]
    tried = [node for node in cell.stages.values() if latest(store, node.stage, node.key) is not None]
    if not tried:
        raise UserError(f"no stage of {cell.label} has an attempt in this store; 'ablate explain' shows their states")
    open_ = [node for node in tried if not store.is_done(node.stage, node.key)]
    return (open_ or tried)[-1]


def follow(store: Store, node: StageNode) -> Iterator[str]:
    """The log of a stage's newest attempt and everything added to it or to later attempts, until no process owns it."""
    folder = latest(store, node.stage, node.key)
    assert folder is not None
    place = 0
    while True:
        # Determined before reading: text written between the two is then read in the next round, never lost.
        over = outcome(folder) is not None or store.claims.holder(node.key) is None
        log = folder / LOG
        if log.exists():
            with log.open("rb") as stream:
                stream.seek(place)
                data = stream.read()
            place += len(data)
            if data:
                yield data.decode(errors="replace")
        newest = latest(store, node.stage, node.key)
        if newest is not None and newest != folder:
            folder, place = newest, 0
        elif over:
            return
        else:
            time.sleep(_POLL_S)
