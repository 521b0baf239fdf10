"""Tuned sweeps over the stages of ``tuned_stages``, and trials and cells of theirs that were never computed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ablations.files import write_json
from ablations.grid.expand import Cell
from ablations.grid.spec import read_sweep
from ablations.planning.needed import needed
from ablations.planning.plan import Plan, make_plan
from ablations.store.artefacts import Store
from qsd.run_store import Record
from tests.ablations import tuned_stages

SWEEP = """\
question: Which loss?
experiment: tiny
axes: {loss.name: [dpo, ipo, sft]}
baseline: {loss.name: dpo}
seeds: [0, 1]
primary: {scorer: clip_emoji_b, split: evaluation}
overrides: {training.steps: 1, evaluation.splits: [evaluation], evaluation.scorers: [clip_emoji_b, clip_emoji]}
tune:
  budget: 6
  fields:
    - {when: {loss.name: [dpo, ipo]}, loss.beta: [500, 1000, 2000], training.learning_rate: [1e-3, 2e-3]}
    - {when: {loss.name: sft}, training.learning_rate: [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 4e-3]}
  judge: clip_emoji_b
  split: validation
  seeds: [100, 101]
"""
"""dpo is best at (1000, 1e-3), ipo at the edge (2000, 1e-3), sft at 1e-3."""
SMALL = (
    SWEEP.replace("[dpo, ipo, sft]", "[dpo, ipo]")[: SWEEP.index("tune:") - len(", sft")]
    + """\
tune:
  budget: 3
  fields: {loss.beta: [500, 1000, 2000]}
  judge: clip_emoji_b
  split: validation
  seeds: [100, 101]
"""
)
"""Twelve trials, and four trainings of the report; dpo is best at 1000, ipo at 2000."""
CHOSEN = {
    "loss=dpo": {"loss.beta": 1000, "training.learning_rate": 1e-3},
    "loss=ipo": {"loss.beta": 2000, "training.learning_rate": 1e-3},
    "loss=sft": {"training.learning_rate": 1e-3},
}
TRIALS = 3 * 6 * 2


def write_prompts(root: Path = Path()) -> None:
    """Twelve prompts to report on and six to tune on."""
    lines = [f"e{number:02d},a held-out thing {number},evaluation" for number in range(12)]
    lines += [f"v{number:02d},a thing to tune on {number},validation" for number in range(6)]
    (root / "world").mkdir(exist_ok=True)
    (root / "world" / "prompts.csv").write_text("\n".join(["prompt_id,caption,split", *lines]) + "\n")


def first_plan(text: str = SWEEP, name: str = "losses") -> Plan:
    """The plan in the current folder, before anything is known to be finished."""
    write_prompts()
    path = Path("sweeps") / f"{name}.yaml"
    path.write_text(text)
    return make_plan(read_sweep(path), tuned_stages)


def plan_now(store: Store, text: str = SWEEP) -> Plan:
    """The plan of what is needed."""
    return needed(first_plan(text), store)


def finish(store: Store, cells: Collection[Cell], but: Collection[str] = ()) -> None:
    """Train and evaluate cells, without those whose label is in ``but``; a cell without stages cannot be."""
    for cell in cells:
        for node in cell.stages.values():
            if cell.label in but or store.is_done(node.stage, node.key):
                continue
            folder = store.partial(node.stage, node.key)
            if node.stage == "evaluate":
                tuned_stages.write_evaluation(folder, cell.values)
            elif node.stage == "train":
                folder.mkdir(parents=True, exist_ok=True)
            else:
                continue
            store.seal(Record(node.stage, node.version, node.key, node.meaning, node.inputs, {}))


def diverge(store: Store, cell: Cell) -> None:
    """Leave the record of a training that diverged."""
    error = {"type": "NonFiniteLossError", "diverged": True}
    folder = store.attempts("train", cell.stages["train"].key) / "1"
    write_json(folder / "exit.json", {"state": "failed", "reason": "training diverged: loss is nan", "error": error})


def chosen(plan: Plan) -> dict[str, Mapping[str, Any] | None]:
    """Cell -> its chosen values."""
    assert plan.tuning is not None
    return {name: cell.best.values if cell.best else None for name, cell in plan.tuning.record.cells.items()}
