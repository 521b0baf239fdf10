"""Sweeps with looks over the scoring stages, and evaluations and divergences of theirs that were never computed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ablations.files import write_json
from ablations.grid.expand import BASE, Cell
from ablations.grid.spec import read_sweep
from ablations.planning.looks import limited
from ablations.planning.plan import Plan, make_plan
from ablations.store.artefacts import Store
from qsd.run_store import Record
from tests.ablations import scoring_stages

SWEEP = """\
question: Which rank?
experiment: tiny
axes: {lora.rank: [4, 8, 16, 32]}
baseline: {lora.rank: 4}
seeds: {looks: [3, 4, 6], margin: 0.1}
primary: {scorer: clip_emoji, split: evaluation}
overrides: {training.steps: 1, evaluation.splits: [evaluation]}
"""
"""Rank 8 is different at the first look, 16 is equivalent there, 32 stays open to the end."""


def whole_plan(text: str = SWEEP, name: str = "ranks") -> Plan:
    """The plan with all seeds, in the current folder."""
    path = Path("sweeps") / f"{name}.yaml"
    path.write_text(text)
    return make_plan(read_sweep(path), scoring_stages)


def plan_now(store: Store, text: str = SWEEP) -> Plan:
    """The plan of the seeds that are needed."""
    return limited(whole_plan(text), store)


def finish(store: Store, plan: Plan, but: Collection[str] = ()) -> None:
    """Evaluate the cells of a plan, without those whose label is in ``but``."""
    for cell in plan.cells:
        node = cell.stages["evaluate"]
        if cell.label not in but and not store.is_done("evaluate", node.key):
            scoring_stages.write_evaluation(store.partial("evaluate", node.key), cell.values)
            store.seal(Record("evaluate", node.version, node.key, node.meaning, node.inputs, {}))


def diverge(store: Store, cell: Cell) -> None:
    """Leave the record of a training that diverged."""
    error = {"type": "NonFiniteLossError", "diverged": True}
    folder = store.attempts("train", cell.stages["train"].key) / "1"
    write_json(folder / "exit.json", {"state": "failed", "reason": "training diverged: loss is nan", "error": error})


def seeds(plan: Plan) -> dict[str, int]:
    """Trained cell -> how many seeds a plan has of it."""
    counts: dict[str, int] = {}
    for cell in plan.cells:
        if cell.role != BASE:
            counts[cell.name] = counts.get(cell.name, 0) + 1
    return counts


def reasons(plan: Plan) -> dict[str, str]:
    """Cell -> why it has stopped, or that it is open."""
    assert plan.looks is not None
    return {name: cell.reason for name, cell in plan.looks.record.cells.items()}
