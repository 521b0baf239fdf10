"""Watching and mending on a real SLURM: what status says of jobs, a retry of one cause, and an end to everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablations.inspection.status import status
from ablations.planning.plan import Plan
from ablations.recovery.cancel import cancel
from ablations.recovery.causes import names
from ablations.recovery.failures import failures
from ablations.recovery.gc import find_garbage
from ablations.recovery.retry import choose, submit
from ablations.store.artefacts import Store
from ablations.store.states import states
from tests.ablations import fake_stages
from tests.ablations.conftest import SMALL, Planner
from tests.ablations.faults import faulty
from tests.slurm.conftest import Prepare, Submit
from tests.slurm.one_node import OneNode
from tests.slurm.watch import command, logs, queue, runs, undone, wait_for, wait_for_end

pytestmark = pytest.mark.slow


def counts(plan: Plan, store: Store) -> dict[str, int]:
    by_state: dict[str, int] = status(plan, store)["states"]
    return by_state


def test_failures_and_a_retry_of_one_cause(
    slurm: OneNode,
    plan_of: Planner,
    prepare: Prepare,
    store: Store,
    submit_plan: Submit,
    fake_log: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = plan_of(faulty(605, 610))
    prepare(plan)
    submit_plan(plan)
    assert set(counts(plan, store)) <= {"queued", "running", "done"}
    wait_for_end()
    report = failures(plan, store)
    assert [(group["cause"], group["cells"]) for group in report["groups"]] == [
        ("disk-full", ["beta=605 seed 0"]),
        ("user-code", ["beta=610 seed 0"]),
    ]
    assert counts(plan, store) == {"done": len(plan.nodes) - 6, "failed": 2, "blocked": 4}

    monkeypatch.setenv("FAKE_MENDED", "1")
    choice = choose(plan, store, names("disk-full"))
    done = submit(plan, store, choice)
    assert done is not None, "they failed on the cluster"
    assert done.jobs == 3
    wait_for_end()
    left = undone(plan, store)
    assert sorted(label.split()[1] for label in left) == ["beta=610"] * 3, logs(store)
    assert sorted(runs(fake_log).values())[-2:] == [1, 2], "nothing but the failed stage ran twice"


def test_status_places_jobs_and_cancel_ends_them(
    slurm: OneNode,
    plan_of: Planner,
    store: Store,
    submit_plan: Submit,
    fake_log: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.5")
    plan = plan_of(SMALL + "overrides: {training.steps: 1000}\n")
    submit_plan(plan)
    wait_for(
        lambda: any("train" in entry["label"] and entry["progress"] for entry in status(plan, store)["running"]),
        "a step",
    )
    overview = status(plan, store)
    assert overview["scheduler"] == "answered"
    cell = next(cell for cell in overview["cells"] if cell["stage"] == "train" and cell["progress"])
    assert cell["state"] == "running"
    assert cell["slurm_job"] in queue()
    assert cell["host"]
    assert cell["progress"]["total"] == 1000
    assert {entry["stage"] for entry in overview["queued"]} >= {"generate", "evaluate"}
    garbage = find_garbage(store, Path("sweeps"), fake_stages)
    assert not [item for item in garbage.items if item.kind in ("launches", "snapshots")]

    said = list(cancel(plan, store))
    assert any(line.startswith(f"scancel {cell['slurm_job']}: train ") for line in said)
    assert "the last job of a launch" in said[0]
    wait_for(lambda: not command("squeue", "--noheader"), "an empty queue")
    after = states(store, plan.nodes)
    assert not {"running", "queued", "unknown", "failed"} & set(after.values()), after
    trained = next(each for each in plan.cells if each.cell_id == cell["cell_id"]).stages["train"]
    assert after[trained.key] == "interrupted", "it goes on from its checkpoint"
    garbage = find_garbage(store, Path("sweeps"), fake_stages)
    assert {item.kind for item in garbage.items} >= {"launches", "snapshots"}
