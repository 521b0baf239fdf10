"""A rehearsal: each distinct shape of a sweep goes through every stage with a handful of steps.

What decides memory and speed of a stage is its shape: the model and its resolution, the loss, the adapter, the batch.
A cell joins the rehearsal if any of its stages has a shape that no earlier cell had.
"""

from __future__ import annotations

import math
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
STEPS = 3
"""Optimiser steps: the first is slow, the second has the optimiser's state in memory, the third gives the time."""
_MODEL = ("model.path", "model.resolution")
_SHAPE: dict[str, tuple[str, ...]] = {
    "data": ("data.reader",),
    "score": ("reward.model", "reward.members", "reward.batch_size"),
    "encode": (*_MODEL, "encode.batch_size", "training.flip"),
    "train": (
        *_MODEL,
        "loss.name",
        "lora.rank",
        "lora.targets",
        "training.pairs_per_step",
        "training.micro_batch",
        "training.precision",
    ),
    "generate": (*_MODEL, "adapter", "generation.guidance_scale", "generation.batch_size"),
    "evaluate": ("evaluation.scorers", "evaluation.batch_size"),
}
"""Stage -> fields that decide its memory and the time of one unit of its work."""


def shape(stage: str, values: Mapping[str, Any]) -> tuple[Any, ...]:
    """Equal for stages that need the same memory and the same time per unit of work."""
    read = (values[name] for name in _SHAPE.get(stage, ()))
    return (stage, *(tuple(value) if isinstance(value, list) else value for value in read))


def dry_plan(plan: Plan, table: StageTable | None = None) -> Plan:
    """The rehearsal of ``plan``: few cells, first seed, few steps and batches. Its stages have keys of their own.

    Args:
        plan: the plan in full.
        table: the stages; those of ``qsd`` if not given.
    """
    seen: set[tuple[Any, ...]] = set()
    chosen: list[Cell] = []
    for cell in plan.cells:
        shapes = {shape(stage, cell.values) for stage in cell.stages}
        if not shapes <= seen:
            seen |= shapes
            chosen.append(cell)
    keys = Keys(table or load_table(QSD), chosen[0].values)
    cells = []
    for cell in chosen:
        values = reduced(cell.values)
        base = keys.nodes({**values, "adapter": "none"})
        cells.append(replace(cell, values=values, stages=keys.nodes(values), base=base))
    return replace(plan, grid=Grid(tuple(cells), ()))


def reduced(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same shapes with little work: two full batches show the memory and the time of any number of them.

    So few rows do not judge a data set, so the bound on damage is widened.
    """
    rows = max(
        round(8 * 100 / values["selection.fraction"]),  # some pairs must be left by the selection
        values["reward.batch_size"],
        values["encode.batch_size"],
    )
    images = 2 * values["generation.batch_size"]
    most = {
        "data.max_rows": rows,
        "training.steps": STEPS,
        "training.checkpoint_steps": 2,
        "generation.steps": 2,
        "generation.images_per_prompt": 1,
        "evaluation.prompts_per_split": math.ceil(images / len(values["evaluation.splits"])),
    }
    few = {name: limit if values[name] is None else min(values[name], limit) for name, limit in most.items()}
    named = {"selection.count": 8, "selection.prompt_clusters": 2}
    few |= {name: min(values[name], limit) for name, limit in named.items() if values[name] is not None}
    return {**values, **few, "training.budget": "steps", "data.max_rejected_fraction": 0.5}
