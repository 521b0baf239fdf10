"""Retry and cancel: exactly what is meant, and nothing that others need."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from ablations.files import read_json, write_json
from ablations.planning.plan import Plan
from ablations.recovery.cancel import cancel
from ablations.recovery.causes import names
from ablations.recovery.retry import RetryPlan, choose, halve_batches
from ablations.running import execution_overrides
from ablations.running.display import Lines
from ablations.running.local import run
from ablations.store.artefacts import Store
from ablations.store.attempts import latest
from ablations.store.launchers import announced
from ablations.store.owner import Owner
from ablations.store.states import states
from qsd.config.load import load_flat, override
from tests.ablations import fake_stages
from tests.ablations.conftest import SMALL, Planner
from tests.ablations.faults import faulty
from tests.ablations.local_run import ENV, PRELOAD, command, events, run_plan


def run_only(plan: Plan, store: Store, keys: frozenset[str]) -> int:
    result = run(plan, store, Lines(sys.stdout), 2, table=fake_stages.HERE, preload=PRELOAD, only=keys)
    assert result.failures == []
    return result.ran


def of_cell(plan: Plan, store: Store, name: str) -> list[str]:
    state_of = states(store, plan.nodes)
    cell = next(cell for cell in plan.cells if cell.name == name)
    return [state_of[node.key] for node in cell.stages.values()]


@pytest.mark.slow
def test_a_retry_runs_the_stages_of_one_cause_and_what_waits_for_them(
    plan_of: Planner, store: Store, fake_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(faulty(603, 605, 610))
    run_plan(plan, store)
    fake_log.unlink()
    monkeypatch.setenv("FAKE_MENDED", "1")
    choice = choose(plan, store, names("disk-full"))
    assert [plan.label(failed.node) for failed in choice.failed] == ["train beta=605 seed 0"]
    assert choice.others == 2
    assert run_only(plan, store, choice.keys) == 3
    ran = [line for line in events(fake_log) if line.startswith("run ")]
    assert sorted(line.split()[1].split("/")[0] for line in ran) == ["evaluate", "generate", "train"]
    assert of_cell(plan, store, "beta=605") == ["done"] * 6
    assert of_cell(plan, store, "beta=610")[3:] == ["failed", "blocked", "blocked"]
    rest = choose(plan, store, names(None))
    assert run_only(plan, store, rest.keys) == 6
    assert set(states(store, plan.nodes).values()) == {"done"}
    assert choose(plan, store, names(None)).failed == ()


@pytest.mark.slow
def test_a_retry_of_one_cell(plan_of: Planner, store: Store, fake_log: Path) -> None:
    plan = plan_of(faulty(605, seeds="[0, 1, 2]"))
    run_plan(plan, store)
    cells = [cell for cell in plan.cells if cell.label == "beta=605 seed 1"]
    choice = choose(plan, store, names(None), cells)
    assert {plan.label(plan.nodes[key]) for key in choice.keys} == {
        f"{stage} beta=605 seed 1" for stage in ("train", "generate", "evaluate")
    }


def test_everything_of_a_stage_that_takes_memory_is_halved(root: Path, store: Store) -> None:
    """An on-policy training samples, scores and trains; which of the three was too much cannot be seen."""
    settings = {
        "method.name": "tailorpo",
        "method.watched_prompts": 0,
        "training.micro_batch": 2,
        "reward.batch_size": 1,
    }
    values = override(load_flat(root / "experiments" / "emoji.yaml"), settings)
    node = SimpleNamespace(stage="train", key="0" * 32, values=values)
    choice = cast(RetryPlan, SimpleNamespace(failed=[SimpleNamespace(node=node, cause="cuda-oom")]))
    (line,) = halve_batches(store, choice)
    assert line == "train 000000000000: training.micro_batch 2 -> 1, method.sampling_batch 32 -> 16"
    halved = {"training.micro_batch": 1, "method.sampling_batch": 16}
    assert execution_overrides.read(store, "train", node.key) == halved
    for _ in range(4):
        (line,) = halve_batches(store, choice)
    assert line.endswith("method.sampling_batch 2 -> 1")
    (line,) = halve_batches(store, choice)
    names_of_all = "training.micro_batch, method.sampling_batch, reward.batch_size"
    assert line.endswith(f"{names_of_all} are 1 already; only more memory helps")


@pytest.mark.slow
def test_out_of_memory_may_halve_the_micro_batch(
    plan_of: Planner, store: Store, fake_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(faulty(603, 605) + "overrides: {training.micro_batch: 16}\n")
    run_plan(plan, store)
    node = next(node for node in plan.nodes.values() if "beta=603" in plan.label(node) and node.stage == "train")
    choice = choose(plan, store, names(None))
    (line,) = halve_batches(store, choice)
    assert line == f"train {node.key[:12]}: training.micro_batch 4 -> 2", "a step has 4 pairs: 16 was never 16"
    assert execution_overrides.read(store, "train", node.key) == {"training.micro_batch": 2}
    (line,) = halve_batches(store, choice)
    assert line.endswith("2 -> 1")
    (line,) = halve_batches(store, choice)
    assert line.endswith("training.micro_batch is 1 already; only more memory helps")
    before = plan_of(faulty(603, 605) + "overrides: {training.micro_batch: 16}\n").nodes
    monkeypatch.setenv("FAKE_MENDED", "1")
    run_only(plan, store, choice.keys)
    assert store.is_done("train", node.key)
    assert set(before) == set(plan.nodes), "the identity is the same"
    folder = latest(store, "train", node.key)
    assert folder is not None
    assert read_json(folder / "attempt.json")["adjusted"] == {"training.micro_batch": 1}


def launched(world: Path, fake_log: Path) -> subprocess.Popen[str]:
    """A launcher that has begun to train."""
    slow = {**os.environ, **ENV, "FAKE_STEP_S": "0.2"}
    process = subprocess.Popen(command(), cwd=world, env=slow, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not any(line.startswith("step-1 ") for line in events(fake_log)):
        assert time.monotonic() < deadline, "waited for a training to begin"
        time.sleep(0.05)
    return process


LONG = SMALL + "overrides: {training.steps: 100}\n"


@pytest.mark.slow
def test_cancel_ends_the_local_run(plan_of: Planner, store: Store, world: Path, fake_log: Path) -> None:
    plan = plan_of(LONG)
    process = launched(world, fake_log)
    said = list(cancel(plan, store))
    output, _ = process.communicate(timeout=60)
    assert said[0] == f"SIGTERM to the launcher, process {process.pid} on this machine"
    assert process.returncode == 128 + signal.SIGTERM
    assert "the same command continues from here" in output
    state_of = states(store, plan.nodes)
    assert "interrupted" in state_of.values()
    assert "running" not in state_of.values()
    assert list(cancel(plan, store)) == ["nothing of this sweep is running or queued"]


def test_cancel_reaches_a_launcher_that_runs_no_stage_yet(
    plan_of: Planner, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It imports the libraries for half a minute; another sweep's with the same stages is left alone."""
    plan = plan_of(SMALL)
    signals: list[tuple[int, int]] = []
    with (
        announced(store, plan.nodes, plan.name),
        announced(store, plan.nodes, "other@tiny"),
        monkeypatch.context() as m,
    ):
        kill = os.kill
        m.setattr(os, "kill", lambda pid, number: signals.append((pid, number)) if number else kill(pid, 0))
        assert list(cancel(plan, store)) == [f"SIGTERM to the launcher, process {os.getpid()} on this machine"]
    assert signals == [(os.getpid(), signal.SIGTERM)]


@pytest.mark.parametrize("place", [{"namespace": "pid:[1]"}, {"boot": "other", "machine": ""}, {"host": "elsewhere"}])
def test_cancel_signals_no_number_of_another_machine_or_container(
    place: dict[str, str], plan_of: Planner, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of machines may be equal; the number means another process here."""
    plan = plan_of(SMALL)
    owner = Owner.here().fields() | place
    key = next(iter(plan.nodes))
    write_json(store.claims.folder / key / "1", {"owner": owner})
    write_json(store.root / "launchers" / "a.json", {"owner": owner, "keys": [key], "sweep": plan.name})
    monkeypatch.setattr(os, "kill", lambda pid, number: pytest.fail(f"{number} to {pid}") if number else None)
    lines = list(cancel(plan, store))
    assert len(lines) == 2
    assert all("not reached from here, it is process" in line for line in lines)


@pytest.mark.slow
def test_cancel_of_a_cell_leaves_what_others_need(plan_of: Planner, store: Store, world: Path, fake_log: Path) -> None:
    plan = plan_of(LONG)
    process = launched(world, fake_log)
    running = [key for key, state in states(store, plan.nodes).items() if state == "running"]
    (cell, *_) = plan.users[next(key for key in running if plan.nodes[key].stage == "train")]
    shared = cell.stages["score"]
    held = store.claims.take(shared.key)
    store.artefact("score", shared.key).rename(store.root / "away")
    said = list(cancel(plan, store, [cell]))
    assert f"kept: {plan.label(shared)}: other cells need it" in said
    assert any(line.startswith("SIGTERM to process ") and f"train {cell.label}" in line for line in said)
    assert held is not None
    held.release()
    (store.root / "away").rename(store.artefact("score", shared.key))
    deadline = time.monotonic() + 120
    while states(store, plan.nodes)[cell.stages["train"].key] != "interrupted" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert process.poll() is None, "the launcher goes on with other cells"
    process.terminate()
    process.communicate(timeout=60)
    assert states(store, plan.nodes)[cell.stages["train"].key] == "interrupted"
