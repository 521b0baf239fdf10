"""A canary: a rehearsal of each shape of a sweep that is submitted first; what trains or generates waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ablations.planning.dry_plan import FOLDER, dry_plan, shape
from ablations.store.artefacts import Store
from ablations.store.jobs import load_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ablations.grid.keys import StageNode
    from ablations.planning.plan import Plan


class Canary:
    """The rehearsal of a plan in a store of its own.

    Args:
        plan: the plan in full.
        store: its store.
        table: module with the stage table.
    """

    def __init__(self, plan: Plan, store: Store, table: str) -> None:
        self.table = load_table(table)
        self.plan = dry_plan(plan, self.table)
        self.store = Store(store.root / FOLDER, self.table.key_of)

    def holds(self, nodes: Mapping[str, StageNode], jobs: Mapping[str, str]) -> dict[str, Sequence[str]]:
        """Key -> the jobs of the rehearsal that it waits for.

        A stage whose spec says so, such as a training, or a generation that follows no training, waits for the whole
        rehearsed cell of its shape. All that comes later waits for these anyway; what comes before is shared by many
        shapes.

        Args:
            nodes: the stages that are submitted by key.
            jobs: key -> job of the rehearsal's stages; done ones have none.
        """
        ends: dict[tuple[object, ...], str] = {}
        for cell in self.plan.cells:
            *_, last = cell.stages.values()
            for stage in cell.stages:
                ends.setdefault(shape(stage, cell.values, self.table), last.key)
        waiting = {stage for stage, spec in self.table.STAGES.items() if spec.waits_for_canary}
        held: dict[str, Sequence[str]] = {}
        for key, node in nodes.items():
            if node.stage in waiting and waiting.isdisjoint(node.inputs):
                end = ends[shape(node.stage, node.values, self.table)]
                if end in jobs:
                    held[key] = (jobs[end],)
        return held
