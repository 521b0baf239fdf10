"""Explanations, field by field, why each stage of a cell is or is not done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ablations.grid.values import show
from ablations.store.states import DIVERGED, DONE, FAILED, NEW, failure
from qsd.config.check import schema_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ablations.grid.expand import Cell
    from ablations.grid.keys import StageNode
    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store
    from qsd.run_store import Record

_ABSENT = object()
_MOST_READ = 5_000
"""Records compared per stage kind; a store with more is searched in the order of keys."""


def explain(plan: Plan, cell: Cell, store: Store, states: Mapping[str, str]) -> Iterator[str]:
    """Lines of text: each stage of ``cell``, its state, and why."""
    yield f"{cell.label} ({cell.cell_id})"
    for node in cell.stages.values():
        state = states[node.key]
        others = len(plan.users[node.key]) - 1
        shared = f", shared with {others} other cell{'s' * (others != 1)}" if others else ""
        yield f"{node.stage} {node.key[:12]}: {state}{shared}"
        for line in _reasons(node, store, state, cell):
            yield f"    {line}"


def _reasons(node: StageNode, store: Store, state: str, cell: Cell) -> Iterator[str]:
    if state == DONE:
        yield str(store.artefact(node.stage, node.key))
        return
    problem = store.problem(node.stage, node.key)
    if problem != "absent":
        yield f"the artefact exists but is not valid: {problem}"
    failed = failure(store, node) if state in (DIVERGED, FAILED) else None
    if failed is not None:
        yield f"{failed[0]} (log: {failed[1] / 'log.txt'})"
    if state == NEW:
        yield "not run yet"
    nearest = _nearest(node, store)
    if nearest is None:
        yield f"no {node.stage} stage has finished in this store"
        return
    yield f"nearest finished: {node.stage} {nearest.key[:12]}"
    for line in _differences(node, nearest, cell):
        yield f"  {line}"


def _nearest(node: StageNode, store: Store) -> Record | None:
    """The finished stage of the same kind that differs in the fewest fields; a field counts as much as two inputs."""
    best: tuple[tuple[int, str], Record] | None = None
    for key in sorted(store.present(node.stage))[:_MOST_READ]:
        record = store.record(node.stage, key)
        if record is None or key == node.key:
            continue
        fields = sum(1 for _ in _changed(node.meaning, record.meaning)) + (node.version != record.version)
        inputs = sum(1 for _ in _changed(node.inputs, record.inputs))
        distance = (2 * fields + inputs, key)
        if best is None or distance < best[0]:
            best = (distance, record)
    return best[1] if best else None


def _changed(expected: Mapping[str, Any], recorded: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted({*expected, *recorded}):
        ours, theirs = expected.get(name, _ABSENT), recorded.get(name, _ABSENT)
        if ours != theirs:
            yield name, ours, theirs


def _differences(node: StageNode, record: Record, cell: Cell) -> Iterator[str]:
    if node.version != record.version:
        yield f"stage version: wanted {node.version}, found {record.version} (the code of this stage has changed)"
    for name, ours, theirs in _changed(node.meaning, record.meaning):
        code = " (the code of this member has changed)" if name.endswith(".source") and ours and theirs else ""
        yield f"{name}: wanted {_value(name, ours)}, found {_value(name, theirs)}{code}"
    for name, ours, theirs in _changed(node.inputs, record.inputs):
        if theirs is _ABSENT:
            yield f"input {name}: wanted {ours[:12]}, not used there"
        elif ours is _ABSENT:
            yield f"input {name}: not wanted, found {theirs[:12]}"
        else:
            yield f"input {name}: wanted {ours[:12]}, found {theirs[:12]} (see {name} of {cell.name} above)"


def _value(name: str, value: Any) -> str:
    if value is not _ABSENT:
        return show(value)
    info = schema_fields().get(name)
    return "nothing" if info is None or info.required else f"{show(info.default)} (the default)"
