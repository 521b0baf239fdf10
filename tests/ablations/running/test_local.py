"""The local runner with real processes on cheap stages: order, failures, signals, kills and races."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from ablations.files import read_json
from ablations.planning.plan import Plan
from ablations.running.display import Lines
from ablations.running.local import RunResult, run
from ablations.running.slots import make_slots, read_gpus
from ablations.store.artefacts import Store
from ablations.store.attempts import latest, outcome
from ablations.store.states import states
from qsd.errors import UserError
from tests.ablations import fake_stages
from tests.ablations.conftest import SMALL, Planner, plan_text, set_log, write_world
from tests.ablations.kill import tree
from tests.ablations.local_run import ENV, PRELOAD, command, events, run_plan

pytestmark = pytest.mark.slow


class Counting(Lines):
    """How many attempts run at a time, and the most that did."""

    running = most = 0

    def started(self, key: str, label: str) -> None:
        super().started(key, label)
        self.running += 1
        self.most = max(self.most, self.running)

    def finished(self, key: str, label: str) -> None:
        super().finished(key, label)
        self.running -= 1


@dataclass(frozen=True)
class Finished:
    """A run of three attempts at a time, in ``root``."""

    root: Path
    plan: Plan
    store: Store
    display: Counting
    result: RunResult


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run for all tests that only look at it."""
    root = tmp_path_factory.mktemp("finished")
    write_world(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        set_log(patch, root / "events")
        plan, store, display = plan_text(SMALL, "a"), Store(root / "runs", fake_stages.key_of), Counting(sys.stdout)
        return Finished(
            root, plan, store, display, run(plan, store, display, 3, table=fake_stages.HERE, preload=PRELOAD)
        )


def test_every_stage_runs_once_and_the_second_run_none(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, store = finished.plan, finished.store
    assert finished.result.ran == len(plan.nodes)
    assert not finished.result.failures
    ran = {line: count for line, count in events(finished.root / "events").items() if line.startswith("run ")}
    assert ran == {f"run {node.stage}/{key}": 1 for key, node in plan.nodes.items()}
    assert set(states(store, plan.nodes).values()) == {"done"}
    monkeypatch.chdir(finished.root)
    assert run_plan(plan, store).ran == 0
    assert not list(Path("runs/partial").rglob("*.*")), "nothing is left in work"
    assert not list(Path("runs/claims").iterdir()), "no claim is left"


def test_artefacts_hold_no_time_host_or_path(finished: Finished, plan_of: Planner, store: Store) -> None:
    run_plan(plan_of(SMALL), store, jobs=1)
    assert tree(Path("runs/artefacts")) == tree(finished.root / "runs/artefacts")


def test_an_attempt_leaves_its_record_beside_the_artefact(finished: Finished) -> None:
    plan, store = finished.plan, finished.store
    node = next(node for node in plan.nodes.values() if node.stage == "train")
    folder = latest(store, "train", node.key)
    assert folder is not None
    record = read_json(folder / "attempt.json")
    assert record["owner"]["host"]
    assert record["owner"]["pid"] > 0
    assert set(record["git"]) == {"commit", "dirty", "untracked"}
    assert "torch" in record["versions"]
    ending = outcome(folder)
    assert ending is not None
    assert ending["state"] == "done"
    assert ending["max_rss_bytes"] > 1e6
    assert (folder / "log.txt").read_text() == "this goes to the log\n"
    assert read_json(folder / "progress.json")["done"] == 3


def test_a_killed_fork_server_costs_the_stages_that_ran_under_it_alone(
    plan_of: Planner, store: Store, world: Path, fake_log: Path
) -> None:
    plan = plan_of(SMALL + "overrides: {training.steps: 40}\n")
    slow = {**os.environ, **ENV, "FAKE_STEP_S": "0.05"}
    process = subprocess.Popen(command(jobs=1), cwd=world, env=slow, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (steps := [line for line in events(fake_log) if line.startswith("step-3 ")]):
        assert time.monotonic() < deadline, "waited for a training to begin"
        time.sleep(0.05)
    key = steps[0].partition("/")[2]
    owner = store.claims.holder(key)
    assert owner is not None
    os.kill(psutil.Process(owner.pid).ppid(), signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "the process that it was forked from was killed; the same command continues from here" in output
    state_of = states(store, plan.nodes)
    assert state_of.pop(key) == "failed"
    assert Counter(state_of.values()) == {"done": len(plan.nodes) - 3, "blocked": 2}, "others start and are done"


def test_a_failure_blocks_only_its_dependants(
    plan_of: Planner, store: Store, fake_log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(
        """
        question: q
        experiment: tiny
        axes: {loss.beta: [100, 666, 667]}
        baseline: {loss.beta: 100}
        seeds: [0]
        """
    )
    result = run_plan(plan, store)
    state_of = states(store, plan.nodes)
    by_cell = {cell.name: Counter(state_of[node.key] for node in cell.stages.values()) for cell in plan.cells}
    assert by_cell["beta=100"] == {"done": 6}
    assert by_cell["base"] == {"done": 2}
    assert by_cell["beta=666"] == {"done": 3, "failed": 1, "blocked": 2}
    assert by_cell["beta=667"] == {"done": 3, "failed": 1, "blocked": 2}
    reasons = {failure.label: failure.reason for failure in result.failures}
    assert reasons == {
        "train beta=666 seed 0": "the loss is not finite at step 0; lower learning_rate",
        "train beta=667 seed 0": "exited with status 3 without an artefact or an error record",
    }
    assert all(failure.blocked == 2 for failure in result.failures)
    log = next(failure.log for failure in result.failures if "666" in failure.label)
    assert log is not None
    assert "error: the loss is not finite" in log.read_text()
    assert str(log) in capsys.readouterr().out


def test_no_more_attempts_at_once_than_jobs(finished: Finished) -> None:
    assert finished.display.most == 3


@pytest.mark.parametrize("each", [1, 2])
def test_every_attempt_has_a_gpu_and_no_gpu_has_more_than_its_share(
    each: int, plan_of: Planner, store: Store, fake_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempts, one for each share, wait for each other on their GPUs: so many do run at the same time."""
    monkeypatch.setenv("FAKE_TOGETHER", str(2 * each))
    plan = plan_of(SMALL)
    assert sum(not node.inputs for node in plan.nodes.values()) >= 2 * each, "enough that can begin at once"
    result = run(plan, store, Lines(sys.stdout), each, table=fake_stages.HERE, preload=PRELOAD, gpus=("5", "GPU-7a"))
    assert result.ran == len(plan.nodes)
    now, most, entered = Counter[str](), Counter[str](), Counter[str]()
    for line in fake_log.read_text().splitlines():
        event, _, _ = line.partition(" ")
        verb, _, gpu = event.partition("-")
        now[gpu] += {"enter": 1, "leave": -1}.get(verb, 0)
        entered[gpu] += verb == "enter"
        most[gpu] = max(most[gpu], now[gpu])
    used = {gpu: count for gpu, count in most.items() if count}
    assert used == {"5": each, "GPU-7a": each}
    assert entered.total() == len(plan.nodes)


def test_gpus_are_checked_and_neighbouring_slots_differ() -> None:
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in make_slots(2, read_gpus("0, 3"))] == ["0", "3", "0", "3"]
    assert make_slots(None, read_gpus("1")) == [{"CUDA_VISIBLE_DEVICES": "1"}]
    assert make_slots(3, read_gpus(None)) == [{}, {}, {}]
    for text in ("", "0,0", "0;1", "0,", "all", "-1"):
        with pytest.raises(UserError, match="--gpus must be different numbers or ids of GPUs such as 0,1"):
            read_gpus(text)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_ends_politely_and_the_next_run_continues(
    number: signal.Signals, plan_of: Planner, store: Store, world: Path, fake_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(SMALL + "overrides: {training.steps: 200}\n")
    slow = {**os.environ, **ENV, "FAKE_STEP_S": "0.1"}
    process = subprocess.Popen(command(), cwd=world, env=slow, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not any(line.startswith("step-5 ") for line in events(fake_log)):
        assert time.monotonic() < deadline, "waited for a training to begin"
        time.sleep(0.05)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert "the same command continues from here" in output
    state_of = states(store, plan.nodes)
    interrupted = [key for key, node in plan.nodes.items() if node.stage == "train" and state_of[key] == "interrupted"]
    assert interrupted
    assert "running" not in states(store, plan.nodes).values()
    assert run_plan(plan, store).failures == []
    steps = events(fake_log)
    assert steps[f"step-1 train/{interrupted[0]}"] == 1, "work before the last checkpoint is not repeated"
    assert steps[f"run train/{interrupted[0]}"] == 2
