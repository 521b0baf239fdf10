"""What goes wrong in one place stays there, and is gone on with: failures, scancel, two launchers at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ablations.files import read_json
from ablations.recovery.retry import causes_of, choose, submit
from ablations.slurm import query
from ablations.store.artefacts import Store
from ablations.store.launches import launches
from tests.ablations.conftest import SMALL, TWO_RANKS, Planner
from tests.ablations.faults import faulty
from tests.conftest import ROOT
from tests.slurm.conftest import PROFILE, Prepare, Submit
from tests.slurm.watch import command, job_of, logs, runs, scancel_all, undone, wait_for, wait_for_end

pytestmark = pytest.mark.slow


def test_a_failing_stage_takes_only_its_followers_along(
    plan_of: Planner, prepare: Prepare, submit_plan: Submit, store: Store, fake_log: Path
) -> None:
    plan = plan_of("question: q\nexperiment: tiny\naxes: {loss.beta: [5, 666]}\nbaseline: {loss.beta: 5}\nseeds: [0]\n")
    prepare(plan)
    submit_plan(plan)
    wait_for_end()
    assert undone(plan, store) == [f"{stage} beta=666 seed 0" for stage in ("train", "generate", "evaluate")], logs(
        store
    )
    ended = query.job_state(job_of(plan, store, "evaluate", 1))
    assert ended is not None
    assert (ended.state, ended.reason) == ("CANCELLED", "DependencyNeverSatisfied")
    again = submit_plan(plan)
    assert again.jobs == 3
    wait_for_end()
    assert sorted(runs(fake_log).values())[-2:] == [1, 2], "only the failed stage ran again"


def test_a_diverged_training_is_submitted_again_only_if_asked(
    plan_of: Planner, prepare: Prepare, submit_plan: Submit, store: Store, fake_log: Path
) -> None:
    plan = plan_of(faulty(608, 610))
    prepare(plan)
    submit_plan(plan)
    wait_for_end()
    wait_for(lambda: not command("squeue", "--noheader"), "the last job")
    content = read_json(store.sweep(plan.name) / "cells.json")
    assert [cell["state"] for cell in content["cells"]] == ["finished", "diverged", "failed", "finished"]
    again = submit_plan(plan)
    assert again.jobs == 3, "only the failed training and what waits for it"
    assert "not tried again: train beta=608 seed 0 ('ablate retry a --cause non-finite' runs it again)" in str(again)
    wait_for_end()
    diverged = next(cell.stages["train"].key for cell in plan.cells if cell.name == "beta=608")
    assert len(list(store.attempts("train", diverged).iterdir())) == 1
    asked = submit(plan, store, choose(plan, store, causes_of("non-finite", None)))
    assert asked is not None
    assert asked.jobs == 3
    wait_for_end()
    assert len(list(store.attempts("train", diverged).iterdir())) == 2


def test_scancel_of_one_element(
    plan_of: Planner,
    prepare: Prepare,
    submit_plan: Submit,
    store: Store,
    fake_log: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "1")
    plan = plan_of(TWO_RANKS)
    prepare(plan)
    submit_plan(plan)
    wait_for(lambda: "step-1 " in fake_log.read_text(), "a training step")
    command("scancel", job_of(plan, store, "train", 1))
    wait_for_end()
    assert undone(plan, store) == [f"{stage} rank=8 seed 0" for stage in ("train", "generate", "evaluate")], logs(store)
    assert submit_plan(plan).jobs == 3
    wait_for_end()
    assert undone(plan, store) == [], logs(store)


def test_resume_after_scancel_of_everything(
    plan_of: Planner, submit_plan: Submit, store: Store, fake_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "1")
    plan = plan_of(TWO_RANKS)
    submit_plan(plan)
    wait_for(lambda: "step-1 " in fake_log.read_text(), "a training step")
    scancel_all()
    left = undone(plan, store)
    assert left
    assert submit_plan(plan).jobs == len(left)
    assert submit_plan(plan).jobs == 0, "nothing is lost any more"
    wait_for_end()
    assert undone(plan, store) == [], logs(store)
    steps = [line for line in fake_log.read_text().splitlines() if line.startswith("step-1 ")]
    assert len(steps) == len(set(steps)), "training went on from its checkpoint"


def test_two_launchers_at_once(
    plan_of: Planner, submit_plan: Submit, store: Store, fake_log: Path, world: Path
) -> None:
    plan = plan_of(SMALL)
    call = [sys.executable, "-m", "tests.slurm.launch", str(plan.sweep.shown), "runs", str(PROFILE)]
    launchers = [subprocess.Popen(call, cwd=world, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [launcher.communicate(timeout=120)[0] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0, 0]
    assert len(launches(store)) == 1, said
    assert sum("were in the queue already" in text for text in said) == 2, said
    wait_for_end()
    assert undone(plan, store) == [], logs(store)
    assert set(runs(fake_log).values()) == {1}


def test_a_second_sweep_waits_for_the_jobs_of_the_first(
    plan_of: Planner, submit_plan: Submit, store: Store, fake_log: Path
) -> None:
    first, second = plan_of(TWO_RANKS), plan_of(TWO_RANKS.replace("[4, 8]", "[4, 16]"), "b")
    command("scontrol", "update", "PartitionName=low", "State=DOWN")
    try:
        submit_plan(first)
        done = submit_plan(second)
    finally:
        command("scontrol", "update", "PartitionName=low", "State=UP")
    assert (done.jobs, done.queued) == (3, len(second.nodes) - 3)
    wait_for_end()
    assert undone(first, store) == undone(second, store) == [], logs(store)
    assert set(runs(fake_log).values()) == {1}


def test_without_slurm_there_is_a_plain_answer(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "ablations.cli", "run", "demo", "--cluster", "generic", "--runs", str(tmp_path)]
    done = subprocess.run(
        call, cwd=ROOT, env={"PATH": "/nowhere", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: no SLURM on this machine (squeue is not found); use a login node, or --cluster local\n"
    )
