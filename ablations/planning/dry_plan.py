"""A rehearsal: each distinct shape of a sweep goes through every stage with a handful of steps.

What decides memory and speed of a stage is its shape: the model and its resolution, the loss, the adapter, the batch;
each stage says which fields these are (``qsd.stages.stage_spec.Rehearsal``).
A cell joins the rehearsal if any of its stages has a shape that no earlier cell had.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ablations.grid.expand import Grid
from ablations.grid.keys import Keys
from ablations.store.jobs import QSD, load_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ablations.grid.expand import Cell
    from ablations.grid.keys import StageTable
    from ablations.planning.plan import Plan

FOLDER = "dryrun"
"""Below a store: the store of its rehearsals."""


def shape(stage: str, values: Mapping[str, Any], table: StageTable) -> tuple[Any, ...]:
    """Equal for stages of a table that need the same memory and the same time per unit of work."""
    read = (values[name] for name in table.STAGES[stage].rehearsal.shape)
    return (stage, *(tuple(value) if isinstance(value, list) else value for value in read))


def dry_plan(plan: Plan, table: StageTable | None = None) -> Plan:
    """The rehearsal of ``plan``: few cells, first seed, few steps and batches. Its stages have keys of their own.

    Args:
        plan: the plan in full.
        table: the stages; those of ``qsd`` if not given.
    """
    table = table or load_table(QSD)
    seen: set[tuple[Any, ...]] = set()
    chosen: list[Cell] = []
    for cell in plan.all_cells:
        shapes = {shape(stage, cell.values, table) for stage in cell.stages}
        if not shapes <= seen:
            seen |= shapes
            chosen.append(cell)
    keys = Keys(table, chosen[0].values)
    cells = []
    for cell in chosen:
        values = reduced(cell.values, table)
        base = keys.nodes({**values, "adapter": "none"})
        cells.append(replace(cell, values=values, stages=keys.nodes(values), base=base))
    return replace(plan, grid=Grid(tuple(cells), ()), tuning=None)


def reduced(values: Mapping[str, Any], table: StageTable) -> dict[str, Any]:
    """The same shapes with little work: as much of everything as the stage that needs most of it asks for."""
    enough: dict[str, int] = {}
    settings: dict[str, Any] = {}
    for spec in table.STAGES.values():
        for name, amount in spec.rehearsal.enough(values).items():
            enough[name] = max(amount, enough.get(name, amount))
        settings |= spec.rehearsal.settings
    few = {name: amount if values[name] is None else min(values[name], amount) for name, amount in enough.items()}
    return {**values, **few, **settings}
