"""What follows the stages: the list of cells for readers, tables and pictures, and the projection to W&B."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ablations.files import write_json
from ablations.grid.cells import about
from ablations.store.origin import git_state
from qsd.stages.reads import choosing_scorers

if TYPE_CHECKING:
    from pathlib import Path

    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store

CELLS = "cells.json"


def cells_json(plan: Plan, root: Path) -> dict[str, Any]:
    """What ``analysis`` and tracking need to know of a sweep: one entry per cell and seed."""
    git = git_state(root)
    commit = git["commit"] and (f"{git['commit']}-dirty" if git["dirty"] else git["commit"])
    baseline = next(cell.name for cell in plan.cells if cell.is_baseline)
    return {
        "sweep": plan.sweep.name,
        "experiment": plan.experiment,
        "question": plan.sweep.question,
        "git_commit": commit,
        "labels": plan.cells[0].values["data.labels"],
        "baseline": baseline,
        "cells": [
            about(cell)
            | {
                "chosen_by": list(choosing_scorers(cell.values)),
                "stages": {stage: node.key for stage, node in cell.stages.items()},
            }
            for cell in plan.cells
        ],
    }


def write_cells(plan: Plan, store: Store, root: Path) -> Path:
    """Write the sweep's ``cells.json``; the sweep's folder."""
    folder = store.sweep(plan.name)
    write_json(folder / CELLS, cells_json(plan, root))
    return folder


def write_tables(store: Store, folder: Path) -> bool:
    """Rebuild tables and pictures unless they come from the present results and code. True if rebuilt."""
    from analysis.lock import up_to_date

    if up_to_date(store.root, folder):
        return False
    from analysis.report import write

    write(store.root, folder)
    return True


def render(folder: Path) -> str:
    """The sweep's tables for a terminal."""
    from analysis.tables import render_terminal

    return render_terminal(folder)
