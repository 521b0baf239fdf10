"""What runs on a node, without a SLURM: waiting, dying, and when a stage stands still. The rest is in tests/slurm."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ablations.files import write_json
from ablations.grid.keys import StageNode
from ablations.running import attempt
from ablations.slurm import entry, requeue
from ablations.store import attempts
from ablations.store.artefacts import Store
from ablations.store.jobs import Job
from tests.ablations import fake_stages
from tests.ablations.conftest import SMALL, Planner
from tests.conftest import ROOT


@pytest.fixture
def node(plan_of: Planner) -> StageNode:
    return plan_of(SMALL).cells[0].stages["encode"]


@pytest.fixture
def job(node: StageNode, store: Store) -> Job:
    return Job.of(node, fake_stages.HERE, store.root, Path.cwd())


def start(job: Job, **environment: str) -> subprocess.Popen[str]:
    code = "import sys; from ablations.slurm.entry import run_job; run_job(sys.argv[1])"
    command = [sys.executable, "-P", "-c", code, str(job.write().resolve())]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen(command, env=env, cwd="/", stdout=subprocess.PIPE, text=True)


def outcome(store: Store, node: StageNode) -> dict[str, Any]:
    folder = attempts.latest(store, node.stage, node.key)
    assert folder is not None
    record = attempts.outcome(folder)
    assert record is not None
    return record


@pytest.mark.slow
def test_the_status_says_whether_the_stage_is_done(job: Job, node: StageNode, store: Store) -> None:
    assert start(job).wait(60) == 0
    assert store.is_done(node.stage, node.key)
    assert start(job).wait(60) == 0, "done already"


@pytest.mark.slow
def test_a_failed_stage_fails_its_job(plan_of: Planner, store: Store) -> None:
    """It lacks its inputs."""
    node = plan_of(SMALL).cells[0].stages["train"]
    assert start(Job.of(node, fake_stages.HERE, store.root, Path.cwd())).wait(60) == attempt.EXIT_FAILED
    assert outcome(store, node)["state"] == "failed"


@pytest.mark.slow
def test_it_waits_for_another_process_and_then_does_the_work(job: Job, node: StageNode, store: Store) -> None:
    claim = store.claims.take(node.key)
    assert claim is not None
    process = start(job)
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said == f"another process works on encode/{node.key}; waiting for it\n"
    assert process.poll() is None
    claim.release()
    assert process.wait(60) == 0
    assert store.is_done(node.stage, node.key)


@pytest.mark.slow
def test_asked_to_end_while_it_waits_it_ends_undone(job: Job, node: StageNode, store: Store) -> None:
    claim = store.claims.take(node.key)
    process = start(job)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == attempt.EXIT_BUSY
    assert store.claims.holder(node.key) is not None, claim


def train_job(plan_of: Planner, store: Store) -> tuple[StageNode, Job]:
    stages = plan_of(SMALL).cells[0].stages
    for name in ("score", "select", "encode"):
        assert start(Job.of(stages[name], fake_stages.HERE, store.root, Path.cwd())).wait(60) == 0
    return stages["train"], Job.of(stages["train"], fake_stages.HERE, store.root, Path.cwd())


def await_text(log: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while not (log.exists() and text in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_signal_is_passed_on(plan_of: Planner, store: Store, world: Path) -> None:
    """With cgroups, SLURM signals this process alone."""
    node, job = train_job(plan_of, store)
    log = world / "events"
    process = start(job, FAKE_STEP_S="3", FAKE_LOG=str(log))
    await_text(log, "step-1 ")
    process.send_signal(signal.SIGUSR2)
    assert process.wait(60) == attempt.EXIT_BUSY
    assert (outcome(store, node)["state"], outcome(store, node)["signal"]) == ("interrupted", "SIGUSR2")


@pytest.mark.slow
def test_the_attempt_dies_with_the_process_that_watches_it(plan_of: Planner, store: Store, world: Path) -> None:
    node, job = train_job(plan_of, store)
    log = world / "events"
    process = start(job, FAKE_STEP_S="3", FAKE_LOG=str(log))
    await_text(log, "step-1 ")
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while store.claims.holder(node.key) is not None:
        assert time.monotonic() < deadline, "the attempt lives on"
        time.sleep(0.02)
    assert "step-3 " not in log.read_text(), "it did not come to its end"


@pytest.fixture
def in_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_CLUSTER_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    monkeypatch.setenv("SLURMD_NODENAME", "n1")


def stop_at(
    done: int | None, run: int, job: Job, store: Store, monkeypatch: pytest.MonkeyPatch, tells: str = attempts.EXIT
) -> None:
    """A run of the SLURM job whose attempt got so far; None if it did not even begin."""
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(run))
    if done is not None:
        folder = store.attempts(job.stage, job.key) / str(run + 1)
        slurm = {"job": "123", "restarts": run, "node": "n1", "cluster": ""}
        write_json(folder / attempts.ATTEMPT, {"slurm": slurm})
        progress = {"done": done, "total": 30, "unit": "steps"}
        ended = {"state": "interrupted", "progress": progress}
        write_json(folder / tells, ended if tells == attempts.EXIT else progress | {"seconds": 9.0, "per_second": 1.0})
    requeue.note_stop(job)


@pytest.mark.parametrize(
    ("stops", "stuck_at"),
    [
        ([3, 9, 20], None),
        ([9], None),
        ([9, 9], "9 of 30 steps"),
        ([None], None),
        ([None, None], "its beginning"),
        ([0, None], "its beginning"),
        ([9, None], None),
        ([9, None, None], "its beginning"),
        ([9, None, 12], None),
        ([9, 4], None),
        ([9, 4, 7], "7 of 30 steps"),
        ([9, 4, 12, 12], "12 of 30 steps"),
    ],
)
@pytest.mark.parametrize("tells", [attempts.EXIT, attempts.PROGRESS], ids=["ended", "killed"])
@pytest.mark.usefixtures("in_job")
def test_a_stage_that_stands_still_is_found_out(
    stops: list[int | None],
    stuck_at: str | None,
    tells: str,
    job: Job,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for run, done in enumerate(stops):
        assert requeue.stuck(job) is None
        stop_at(done, run, job, store, monkeypatch, tells)
    reason = requeue.stuck(job)
    if stuck_at is None:
        assert reason is None
    else:
        assert reason is not None
        assert reason.startswith(f"no progress: stopped at {stuck_at} again")
    monkeypatch.setenv("SLURM_JOB_ID", "124")
    assert requeue.stuck(job) is None, "a new submission starts with a clean sheet"


@pytest.mark.slow
def test_what_a_kill_left_in_submitits_folder_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Job
) -> None:
    folder = tmp_path / "submitit"
    folder.mkdir()
    names = ("123_4_0_result.pkl.save_tmp", "123_4_submitted.pkl.save_tmp", "123_4_submitted.pkl", "123_5_x.save_tmp")
    for name in names:
        (folder / name).touch()
    env = {"SUBMITIT_FOLDER": str(folder), "SLURM_ARRAY_JOB_ID": "123", "SLURM_ARRAY_TASK_ID": "4"}
    assert start(job, **env, SLURM_JOB_ID="130").wait(60) == 0
    assert {path.name for path in folder.iterdir()} == {"123_4_submitted.pkl", "123_5_x.save_tmp"}


def test_submitit_can_start_it_anew_before_it_has_begun() -> None:
    """submitit looks for an attribute ``checkpoint`` at the time limit, and pickles what it returns."""
    again = entry.run_job.checkpoint("x.json")  # type: ignore[attr-defined]
    assert (again.function, again.args) == (entry.run_job, ("x.json",))
    assert len(pickle.dumps(entry.run_job)) < 100, "the function goes by its name"
