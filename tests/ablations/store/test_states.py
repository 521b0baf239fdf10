"""The state of a stage: own records first, then the scheduler; and no answer is never an end."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from ablations.files import write_json
from ablations.grid.keys import StageNode
from ablations.inspection.status import alive, status, status_lines
from ablations.planning.plan import Plan
from ablations.slurm import query
from ablations.slurm.query import described
from ablations.store import launches
from ablations.store.artefacts import Store
from ablations.store.owner import Owner
from ablations.store.scheduler import JobState
from ablations.store.states import states
from tests.ablations.conftest import SMALL, Planner

FAILED = {"state": "failed", "reason": "ValueError: x"}
STOPPED = {"state": "interrupted", "reason": "stopped by SIGTERM"}
KILLED: dict[str, Any] = {}
"""An attempt without a last word."""
Answer = Callable[[str | None, str], None]


@pytest.fixture
def train(plan_of: Planner, store: Store) -> tuple[Plan, StageNode]:
    plan = plan_of(SMALL)
    return plan, next(node for node in plan.nodes.values() if node.stage == "train")


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Let the scheduler say one word of every job, or nothing."""

    def answer(word: str | None, reason: str = "") -> None:
        def states_of(jobs: Any) -> dict[str, JobState] | None:
            return None if word is None else {job: described(job, word, reason, "node7") for job in jobs}

        monkeypatch.setattr(query, "states", states_of)

    return answer


def attempted(store: Store, node: StageNode, ending: dict[str, Any], job: str | None = None) -> None:
    folder = store.attempts(node.stage, node.key) / "1"
    write_json(folder / "attempt.json", {"slurm": {"job": job} if job else None})
    if ending:
        write_json(folder / "exit.json", ending)


def submitted(store: Store, node: StageNode) -> None:
    launch = launches.begin(store, "a", "tiny", {}, "generic", "", "")
    launch.record(launches.Array("12", False, node.stage, "small", [node.key]))


@pytest.mark.parametrize(
    ("ending", "job", "word", "expected"),
    [
        (None, None, "PENDING", "queued"),
        (None, None, "RUNNING", "running"),
        (None, None, None, "unknown"),
        (None, None, "GONE", "new"),
        (None, None, "CANCELLED", "new"),
        (FAILED, "12_0", None, "failed"),
        (FAILED, "12_0", "GONE", "failed"),
        (FAILED, "12_0", "COMPLETING", "failed"),
        (FAILED, "11_0", "PENDING", "queued"),
        (FAILED, "11_0", None, "unknown"),
        (FAILED, "11_0", "GONE", "failed"),
        (STOPPED, "12_0", "PENDING", "queued"),
        (STOPPED, "12_0", None, "unknown"),
        (STOPPED, "12_0", "PREEMPTED", "interrupted"),
        (KILLED, "12_0", "TIMEOUT", "interrupted"),
        (KILLED, "12_0", "NODE_FAIL", "interrupted"),
        (KILLED, "12_0", "OUT_OF_MEMORY", "failed"),
        (KILLED, "12_0", None, "unknown"),
    ],
)
def test_records_then_scheduler(
    ending: dict[str, Any] | None,
    job: str | None,
    word: str | None,
    expected: str,
    train: tuple[Plan, StageNode],
    store: Store,
    says: Answer,
) -> None:
    plan, node = train
    submitted(store, node)
    if ending is not None:
        attempted(store, node, ending, job)
    says(word, "")
    state_of = states(store, plan.nodes)
    assert state_of[node.key] == expected
    after = {state_of[other.key] for other in plan.nodes.values() if node.key in other.inputs.values()}
    assert after == {"blocked" if expected == "failed" else "new"}


@pytest.mark.parametrize(
    ("word", "expected"),
    [("RUNNING", "running"), ("COMPLETING", "running"), (None, "unknown"), ("PENDING", "new"), ("GONE", "new")],
)
def test_a_claim_from_another_node(
    word: str | None, expected: str, train: tuple[Plan, StageNode], store: Store, says: Answer
) -> None:
    plan, node = train
    far = Owner.here().fields() | {"host": "node7", "slurm_job": "12_0", "cluster": ""}
    write_json(store.claims.folder / node.key / "1", {"owner": far})
    says(word, "")
    assert states(store, plan.nodes)[node.key] == expected


def test_a_claim_on_another_machine_without_scheduler_holds(train: tuple[Plan, StageNode], store: Store) -> None:
    plan, node = train
    write_json(store.claims.folder / node.key / "1", {"owner": Owner.here().fields() | {"host": "other"}})
    assert states(store, plan.nodes)[node.key] == "running"


def test_the_scheduler_is_asked_once_and_only_if_there_is_a_job(
    train: tuple[Plan, StageNode], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = train
    asked: list[list[str]] = []

    def states_of(jobs: Any) -> dict[str, JobState]:
        asked.append(list(jobs))
        return {job: described(job, "PENDING") for job in asked[-1]}

    monkeypatch.setattr(query, "states", states_of)
    states(store, plan.nodes)
    assert asked == []
    keys = [node.key for node in plan.nodes.values()]
    launch = launches.begin(store, "a", "tiny", {}, "generic", "", "")
    launch.record(launches.Array("12", False, "mixed", "small", keys))
    assert set(states(store, plan.nodes).values()) == {"queued"}
    assert asked == [[f"12_{number}" for number in range(len(keys))]]


def test_status_says_where_and_how_far(
    train: tuple[Plan, StageNode], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, node = train
    assert store.claims.take(node.key) is not None
    folder = store.attempts("train", node.key) / "1"
    write_json(folder / "attempt.json", {"environment": {"CUDA_VISIBLE_DEVICES": "1"}})
    report = {"done": 30, "total": 60, "unit": "steps", "seconds": 15.0, "per_second": 2.0}
    write_json(folder / "progress.json", report)
    overview = status(plan, store)
    cell = next(cell for cell in overview["cells"] if cell["state"] == "running")
    assert (cell["stage"], cell["progress"], cell["seconds_left"], cell["gpu"]) == ("train", report, 15.0, "1")
    line = next(line for line in status_lines(overview) if "running:" in line)
    host = Owner.here().host
    assert line.endswith(f"running: train 30/60 steps, 2 per second, 15 s left, on {host}, GPU 1")
    assert overview["running"][0]["pid"] == os.getpid()
    assert alive(overview)


def test_a_silent_scheduler_is_said(train: tuple[Plan, StageNode], store: Store, says: Answer) -> None:
    plan, node = train
    submitted(store, node)
    says(None, "")
    overview = status(plan, store)
    assert overview["scheduler"] == "silent"
    assert overview["queued"][0]["slurm_job"] == "12_0"
    assert "the scheduler does not answer" in "\n".join(status_lines(overview))
    says("PENDING", "Priority")
    overview = status(plan, store)
    assert overview["queued"][0]["reason"] == "Priority"
    assert any(line.endswith("queued: train, job 12_0") for line in status_lines(overview))
