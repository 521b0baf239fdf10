"""How far a sweep is: counts, what runs where, and what failed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ablations.display import describe
from ablations.states import DONE, FAILED, NEW, RUNNING, STATES, failure, progress, states, where

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ablations.grid import Cell
    from ablations.plan import Plan
    from ablations.store import Store

_MOST_LINES = 60


def status(plan: Plan, store: Store) -> dict[str, Any]:
    """The sweep's state as plain values: counts by state, one entry per cell and seed, running and failed stages."""
    found = states(store, plan.nodes)
    running, failures = [], []
    for key, node in plan.nodes.items():
        if found[key] == RUNNING:
            owner = where(store, key)
            entry = {"label": plan.label(node), "stage": node.stage, "key": key, "progress": progress(store, node)}
            running.append(entry | {"where": str(owner) if owner else None})
        elif found[key] == FAILED:
            failed = failure(store, node)
            if failed is not None:
                entry = {"label": plan.label(node), "stage": node.stage, "key": key}
                failures.append(entry | {"reason": failed[0], "log": str(failed[1] / "log.txt")})
    return {
        "sweep": plan.sweep.name,
        "experiment": plan.experiment,
        "states": dict(Counter(found.values())),
        "cells": [_cell(cell, found) for cell in plan.cells],
        "running": running,
        "failures": failures,
    }


def _cell(cell: Cell, found: Mapping[str, str]) -> dict[str, Any]:
    """A cell is done when all its stages are; otherwise its first stage that is not says where it stands."""
    current = next((node.stage for node in cell.stages.values() if found[node.key] != DONE), None)
    states_of_cell = {found[node.key] for node in cell.stages.values()}
    order = (FAILED, RUNNING, "interrupted", "blocked", NEW, DONE)
    return {
        "name": cell.name,
        "seed": cell.seed,
        "cell_id": cell.cell_id,
        "state": next(state for state in order if state in states_of_cell),
        "stage": current,
        "done": sum(found[node.key] == DONE for node in cell.stages.values()),
        "stages": len(cell.stages),
    }


def print_status(found: Mapping[str, Any]) -> None:
    """The state for a person."""
    counts = ", ".join(f"{found['states'][state]} {state}" for state in STATES if state in found["states"])
    print(f"{found['sweep']}@{found['experiment']}: {sum(found['states'].values())} stages: {counts}")
    cells = found["cells"]
    width = max(len(cell["name"]) for cell in cells)
    for cell in cells[:_MOST_LINES]:
        seed = "" if cell["seed"] is None else f"seed {cell['seed']}"
        stage = "" if cell["stage"] is None else f"  next: {cell['stage']}"
        print(f"  {cell['name']:{width}}  {seed:9} {cell['done']}/{cell['stages']} {cell['state']}{stage}")
    if len(cells) > _MOST_LINES:
        print(f"  ... and {len(cells) - _MOST_LINES:,} more (--json lists all)")
    for entry in found["running"]:
        report = describe(entry["progress"]) if entry["progress"] else "starting"
        print(f"running: {entry['label']}: {report}; {entry['where']}")
    for entry in found["failures"]:
        print(f"failed: {entry['label']}: {entry['reason']}\n    log: {entry['log']}")
