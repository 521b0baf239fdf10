"""One attempt: its record, how it stops, and what it refuses to run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ablations.grid.keys import StageNode
from ablations.planning.plan import Plan
from ablations.running import attempt, execution_overrides, stopping
from ablations.running.stopping import Stop
from ablations.store import attempts
from ablations.store.artefacts import Store
from ablations.store.jobs import Job
from qsd.errors import UserError
from qsd.runtime import Interrupted
from tests.ablations import fake_stages
from tests.ablations.conftest import SMALL, Planner
from tests.conftest import ROOT

SECRET = "0123456789abcdef0123456789abcdef01234567"


def node_of(plan: Plan, stage: str) -> StageNode:
    return plan.cells[0].stages[stage]


def job_of(node: StageNode, store: Store, table: str = fake_stages.HERE) -> Path:
    return Job.of(node, table, store.root, Path.cwd()).write().resolve()


def start(job: Path, **environment: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen([sys.executable, "-m", "ablations.running.attempt", str(job)], env=env)


def run(job: Path, **environment: str) -> int:
    return start(job, **environment).wait(timeout=120)


def ending(store: Store, node: StageNode) -> dict[str, Any]:
    folder = attempts.latest(store, node.stage, node.key)
    assert folder is not None
    exit_record = attempts.outcome(folder)
    assert exit_record is not None
    return exit_record


def record(store: Store, node: StageNode) -> dict[str, Any]:
    folder = attempts.latest(store, node.stage, node.key)
    assert folder is not None
    content: dict[str, Any] = json.loads((folder / attempts.ATTEMPT).read_text())
    return content


def run_inputs(plan: Plan, store: Store, stage: str) -> None:
    for name in plan.cells[0].stages:
        if name == stage:
            return
        assert run(job_of(node_of(plan, name), store)) == attempt.EXIT_DONE


def test_a_finished_attempt_leaves_its_record(plan_of: Planner, store: Store) -> None:
    node = node_of(plan_of(SMALL), "score")
    slurm = {"SLURM_JOB_ID": "130", "SLURM_ARRAY_JOB_ID": "123", "SLURM_ARRAY_TASK_ID": "4", "SLURM_RESTART_COUNT": "2"}
    assert run(job_of(node, store), **slurm, SLURMD_NODENAME="n7", SLURM_CLUSTER_NAME="big") == attempt.EXIT_DONE
    exit_record = ending(store, node)
    assert exit_record["state"] == "done"
    assert exit_record["progress"] == {"done": 1, "total": 1, "unit": "files"}
    assert exit_record["max_rss_bytes"] > 1_000_000
    assert (exit_record["reason"], exit_record["signal"], exit_record["error"], exit_record["max_cuda_bytes"]) == (
        None,
        None,
        None,
        None,
    )
    written = record(store, node)
    assert written["slurm"] == {"job": "123_4", "restarts": 2, "node": "n7", "cluster": "big"}
    assert (written["owner"]["slurm_job"], written["owner"]["restarts"]) == ("123_4", 2)
    assert (written["snapshot"], written["adjusted"]) == (None, {})
    assert written["environment"]["SLURM_ARRAY_TASK_ID"] == "4"


@pytest.mark.slow
def test_no_key_of_the_environment_reaches_a_file(plan_of: Planner, store: Store) -> None:
    node = node_of(plan_of(SMALL), "score")
    secrets = dict.fromkeys(("WANDB_API_KEY", "HF_TOKEN", "SLURM_JWT", "SLURM_SECRET", "OMP_PASSWORD"), SECRET)
    address = f"mysql://slurm:{SECRET}" + "@db.example.org"
    urls = {"SLURM_ACCOUNTING_STORAGE": address, "SLURM_JOB_NAME": address, "OMP_TOOL_LIBRARIES": f"/home/{SECRET}"}
    assert run(job_of(node, store), **secrets, **urls) == attempt.EXIT_DONE
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_a_mistake_of_the_user_is_described(plan_of: Planner, store: Store) -> None:
    node = node_of(plan_of(SMALL), "train")
    assert run(job_of(node, store)) == attempt.EXIT_FAILED
    error = ending(store, node)["error"]
    assert error["type"] == "qsd.errors.UserError"
    assert error["message"].startswith("input select/")
    assert error["frames"] == [], "the runner's own frames tell nothing"


@pytest.mark.slow
def test_the_frames_of_a_fault_name_the_code_not_the_line(plan_of: Planner, store: Store) -> None:
    node = node_of(plan_of(SMALL), "score")
    output = store.partial("score", node.key)
    (output / "result.txt").mkdir(parents=True)
    assert run(job_of(node, store)) == attempt.EXIT_FAILED
    exit_record = ending(store, node)
    assert exit_record["error"]["type"] == "IsADirectoryError"
    assert exit_record["error"]["frames"][0] == "tests/ablations/fake_stages.py:score"
    assert exit_record["error"]["frames"][-1].startswith("pathlib.py:")
    assert exit_record["reason"].startswith("IsADirectoryError: ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR2"])
def test_a_signal_ends_a_stage_at_its_next_report(name: str, plan_of: Planner, store: Store, world: Path) -> None:
    plan = plan_of(SMALL + "overrides: {training.steps: 30}\n")
    run_inputs(plan, store, "train")
    node = node_of(plan, "train")
    job = job_of(node, store)
    log = world / "events"
    process = start(job, FAKE_STEP_S="0.3", FAKE_LOG=str(log))
    await_line(log, "step-3 ")
    process.send_signal(signal.Signals[name])
    assert process.wait(timeout=120) == attempt.EXIT_INTERRUPTED
    exit_record = ending(store, node)
    assert (exit_record["state"], exit_record["signal"], exit_record["reason"]) == (
        "interrupted",
        name,
        f"stopped by {name}",
    )
    reached = exit_record["progress"]["done"]
    assert 3 <= reached < 30
    assert store.claims.holder(node.key) is None
    assert run(job, FAKE_LOG=str(log)) == attempt.EXIT_DONE
    steps = [line.split()[0] for line in log.read_text().splitlines() if line.startswith("step-")]
    assert steps == [f"step-{number}" for number in range(1, 31)], "no step is lost, none is repeated"


def await_line(log: Path, start: str) -> None:
    deadline = time.monotonic() + 60
    while not (log.exists() and any(line.startswith(start) for line in log.read_text().splitlines())):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(stopping, "GRACE_S", 0.2)
    before = {number: signal.getsignal(number) for number in (*stopping.SIGNALS, signal.SIGALRM)}
    made = Stop()
    made.watch()
    yield made
    made.unwatch()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_stage_that_reports_nothing_is_ended_after_a_grace(stop: Stop) -> None:
    begin = time.monotonic()
    signal.raise_signal(signal.SIGUSR2)
    with pytest.raises(Interrupted, match="stopped by SIGUSR2"):
        time.sleep(30)
    assert time.monotonic() - begin >= 0.2
    assert stop.signal == "SIGUSR2"


def test_a_stage_that_asks_is_left_to_end_itself(stop: Stop) -> None:
    assert not stop.stopping()
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGUSR2)
    time.sleep(0.5)
    stop.check()
    assert stop.stopping()
    assert stop.signal == "SIGTERM", "the first one counts"


def test_an_adjusted_setting_is_used_and_recorded(plan_of: Planner, store: Store) -> None:
    plan = plan_of(SMALL)
    node = node_of(plan, "score")
    execution_overrides.write(store, node.stage, node.key, {"training.micro_batch": 8}, "out of memory")
    execution_overrides.write(store, node.stage, node.key, {"threads": 2}, "more")
    assert run(job_of(node, store)) == attempt.EXIT_DONE
    assert record(store, node)["adjusted"] == {"training.micro_batch": 8, "threads": 2}
    assert store.is_done(node.stage, node.key), "its key is what it was"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"training.steps": 5}, "'training.steps' decides results"),
        ({"data.path": "x"}, "'data.path' decides results"),
        ({"training.micro_batch": -1}, "training.micro_batch must be at least 0, not -1"),
        ({"training.micro_bath": 4}, "unknown key 'training.micro_bath' (did you mean 'training.micro_batch'?)"),
    ],
)
def test_only_how_a_stage_runs_can_be_adjusted(
    values: dict[str, Any], problem: str, plan_of: Planner, store: Store
) -> None:
    node = node_of(plan_of(SMALL), "score")
    with pytest.raises(UserError, match="an adjustment: ") as caught:
        execution_overrides.write(store, node.stage, node.key, values, "")
    assert problem in str(caught.value)
    path = store.root / "adjust" / node.stage / f"{node.key}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"values": values, "reason": ""}))
    assert run(job_of(node, store)) == attempt.EXIT_FAILED
    assert problem in ending(store, node)["reason"]


def test_a_damaged_adjustment_is_told(plan_of: Planner, store: Store) -> None:
    node = node_of(plan_of(SMALL), "score")
    path = store.root / "adjust" / node.stage / f"{node.key}.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert run(job_of(node, store)) == attempt.EXIT_FAILED
    assert ending(store, node)["reason"].endswith("not an adjustment; delete it and retry again")


@pytest.mark.slow
def test_a_job_that_means_something_else_by_now_is_refused(plan_of: Planner, store: Store) -> None:
    node = node_of(plan_of(SMALL), "encode")
    path = job_of(node, store)
    job = json.loads(path.read_text())
    path.write_text(json.dumps(job | {"meaning": {"model.resolution": 32}}))
    assert run(path) == attempt.EXIT_FAILED
    reason = ending(store, node)["reason"]
    assert reason.startswith("model.resolution (64) changed since the launch: 32 is now 64; launch the sweep again")
    path.write_text(json.dumps(job | {"version": 3}))
    assert run(path) == attempt.EXIT_FAILED
    assert ending(store, node)["reason"].startswith("encode: launched as version 3, but the code is of version 1")


@pytest.mark.slow
def test_a_data_file_edited_after_the_launch_is_refused(plan_of: Planner, store: Store, world: Path) -> None:
    """The project's own stages: the key holds a digest of the file behind the path."""
    (world / "world").mkdir()
    pairs = world / "world" / "pairs"
    pairs.write_text("as launched")
    values = dict(node_of(plan_of(SMALL), "score").values)
    from qsd.stages.spec import STAGES, stage_key, stage_meaning

    meaning = stage_meaning("data", values)
    node = StageNode("data", stage_key("data", values, {}), STAGES["data"].version, meaning, {}, values)
    job = job_of(node, store, "qsd.stages.spec")
    pairs.write_text("edited since")
    assert run(job) == attempt.EXIT_FAILED
    reason = ending(store, node)["reason"]
    assert reason.startswith(f"data.path (world/pairs) changed since the launch: {meaning['data.path']} is now ")
    pairs.unlink()
    assert run(job) == attempt.EXIT_FAILED
    missing = "data.path: world/pairs: no such file or folder; put it there, or set data.path"
    assert ending(store, node)["reason"] == missing


def test_peak_memory_is_that_of_the_process_not_of_its_parent() -> None:
    """A program started by a large process has not taken the memory that its parent had."""
    parent = (
        "import subprocess, sys; ballast = bytearray(400_000_000); "
        "child = 'from ablations.running.error_record import max_rss_bytes; print(max_rss_bytes())'; "
        "subprocess.run([sys.executable, '-c', child], check=True)"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200_000_000
