"""How far each cell is, for ``cells.json`` and its readers: finished, diverged, failed or unfinished, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ablations.grid.keys import StageNode
from ablations.store import states
from ablations.store.states import failure, inspect_stages
from qsd.stages.spec import STAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ablations.store.artefacts import Store
    from ablations.store.states import StageStates

FINISHED, DIVERGED, FAILED, UNFINISHED = "finished", "diverged", "failed", "unfinished"


def with_states(store: Store, entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Entries of ``cells.json`` with their present "state" and "reason".

    finished: what the cell is for, its evaluation, is done. diverged: the latest attempt at the training diverged.
    failed: a stage that the cell needs failed otherwise. unfinished: anything else, such as running, queued,
    interrupted or never tried. The reason is a line for the second and third, else None. Neither depends on how stages
    wait for each other, so the keys of the stages are enough to decide.

    Args:
        store: where the stages are.
        entries: each has "stages", kind -> key, inputs before their users; none of a cell that is being tuned.
    """
    listed = [dict(entry) for entry in entries]
    results = {stage for stage, spec in STAGES.items() if spec.wanted is not None}
    finished = {
        id(entry)
        for entry in listed
        if results & entry["stages"].keys()  # none before the settings of a cell are chosen
        and all(store.is_done(stage, key) for stage, key in entry["stages"].items() if stage in results)
    }
    nodes = {
        key: StageNode(stage, key, version=0, meaning={}, inputs={}, values={})
        for entry in listed
        if id(entry) not in finished
        for stage, key in entry["stages"].items()
    }
    inspected = inspect_stages(store, nodes)
    for entry in listed:
        entry["state"], entry["reason"] = FINISHED, None
        if id(entry) not in finished:
            entry["state"], entry["reason"] = _state([nodes[key] for key in entry["stages"].values()], store, inspected)
    return listed


def _state(stages: list[StageNode], store: Store, inspected: StageStates) -> tuple[str, str | None]:
    """Of a cell without an evaluation; a divergence stands whatever becomes of the inputs of its training."""
    for node in stages:
        if inspected.states[node.key] == states.DIVERGED:
            return DIVERGED, _reason(node, store, inspected)
    for node in stages:
        if inspected.states[node.key] == states.FAILED:
            return FAILED, f"{node.stage} failed: {_reason(node, store, inspected)}"
    return UNFINISHED, None


def _reason(node: StageNode, store: Store, inspected: StageStates) -> str:
    """One line."""
    failed = failure(store, node)
    if failed is not None:
        return failed[0].partition("\n")[0]
    job = inspected.job_state(node.key)
    return f"SLURM job {job.job}: {job.state}" if job else "it left no record"
