"""Records of attempts that lack a field or hold another type are read as if they were not there, by every command."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ablations.cost.timings import _read
from ablations.files import write_json
from ablations.inspection.status import status, status_lines
from ablations.planning.diff import diff
from ablations.planning.plan import Plan
from ablations.recovery.failures import failure_lines, failures
from ablations.recovery.retry import causes_of, choose
from ablations.running.finalize import cells_json
from ablations.running.run_record import run_record
from ablations.store.artefacts import Store
from ablations.store.attempts import latest_ended, origin, outcome
from ablations.store.owner import Owner
from ablations.store.states import progress, states
from tests.ablations.conftest import SMALL, Planner

FAILED = {"state": "failed", "reason": "x"}
EXITS: list[Any] = [
    {},
    [],
    {"state": 3, "reason": "x"},
    {"state": "weird", "reason": "x"},
    {"state": "failed", "reason": 5},
    {**FAILED, "error": "y"},
    {**FAILED, "error": {"type": 5}},
    {**FAILED, "error": {"type": "a", "frames": 7}},
    {**FAILED, "error": {"type": "a", "frames": [1]}},
    {**FAILED, "seconds": "long"},
    {**FAILED, "progress": {"done": "x"}},
]
ATTEMPTS: list[Any] = [
    {"slurm": 3},
    {"git": "x"},
    {"git": {"commit": 3}},
    {"versions": [1]},
    {"versions": {"torch": 2}},
    {"start": 3},
    {"environment": "x"},
    {"processes": "x"},
    {"owner": 3},
]
REPORTS: list[Any] = [
    {},
    {"done": 1},
    {"done": 1, "total": 2, "unit": "steps", "seconds": 1.0, "per_second": None},
    {"done": "x", "total": "y", "unit": "steps", "seconds": 1.0, "per_second": 1.0},
]


def shown(plan: Plan, store: Store) -> None:
    """Whatever reads records for people."""
    report = status(plan, store)
    list(status_lines(report))
    list(failure_lines(failures(plan, store)))
    choose(plan, store, causes_of(None, None))
    run_record(store, cells_json(plan, store, None))
    diff(plan.cells[0], plan.cells[1], store)
    for node in plan.nodes.values():
        _read(store.attempts(node.stage, node.key) / "1")


def write(plan: Plan, store: Store, name: str, content: Any) -> None:
    for node in plan.nodes.values():
        folder = store.attempts(node.stage, node.key) / "1"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize("content", EXITS)
def test_an_outcome(content: Any, plan_of: Planner, store: Store) -> None:
    plan = plan_of(SMALL)
    write(plan, store, "exit.json", content)
    node = next(iter(plan.nodes.values()))
    assert outcome(store.attempts(node.stage, node.key) / "1") is None
    assert latest_ended(store, node.stage, node.key) is None
    assert set(states(store, plan.nodes).values()) == {"interrupted"}, "as after a kill: it is tried again"
    shown(plan, store)


def test_an_outcome_without_a_reason_is_one(plan_of: Planner, store: Store) -> None:
    plan = plan_of(SMALL)
    write(plan, store, "exit.json", {"state": "failed"})
    assert "failed" in states(store, plan.nodes).values()
    shown(plan, store)


@pytest.mark.parametrize("content", ATTEMPTS)
def test_an_origin(content: Any, plan_of: Planner, store: Store) -> None:
    plan = plan_of(SMALL)
    write(plan, store, "attempt.json", content)
    write(plan, store, "exit.json", FAILED)
    node = next(iter(plan.nodes.values()))
    assert origin(store.attempts(node.stage, node.key) / "1") == {}
    shown(plan, store)


@pytest.mark.parametrize("content", REPORTS)
def test_a_report_of_progress(content: Any, plan_of: Planner, store: Store) -> None:
    plan = plan_of(SMALL)
    write(plan, store, "progress.json", content)
    for key in plan.nodes:
        write_json(store.claims.folder / key / "1", {"owner": Owner.here().fields()})
    assert progress(store, next(iter(plan.nodes.values()))) is None
    shown(plan, store)
