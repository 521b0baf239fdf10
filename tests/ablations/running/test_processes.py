"""One stage by several processes: whose words are the reason, who gets the signals, and that nobody is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ablations.files import read_json
from ablations.grid.keys import StageNode
from ablations.planning.plan import Plan
from ablations.recovery.causes import cause_of
from ablations.running import attempt, local
from ablations.running.display import Lines
from ablations.running.slots import environment, make_slots, take
from ablations.running.workers import Workers
from ablations.store import attempts
from ablations.store.artefacts import Store
from ablations.store.jobs import Job
from qsd.errors import UserError
from qsd.stages import spec
from tests.ablations import fake_stages
from tests.ablations.conftest import SMALL, Planner, plan_text, write_world
from tests.ablations.flat_values import FLAT
from tests.ablations.kill import is_alive
from tests.ablations.local_run import events

pytestmark = pytest.mark.slow

PRELOAD = ("omegaconf", "pytest", "torch.distributed", fake_stages.HERE)
ONE = SMALL.replace("[product, difference]", "[product]").replace("controls", "#").replace("  - {sel", "#  - {sel")
TRAIN = "overrides: {training.steps: 8, training.processes: 2}\n"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefacts of all that comes before a training."""
    folder = tmp_path_factory.mktemp("inputs")
    write_world(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plan, store = plan_text(ONE + TRAIN, "a"), Store(Path("runs"), fake_stages.key_of)
        before = {key for key, each in plan.nodes.items() if each.stage in ("score", "select", "encode")}
        result = local.run(plan, store, Lines(sys.stdout), 1, fake_stages.HERE, ("omegaconf",), only=before)
    assert not result.failures
    return folder / store.root / "artefacts"


@pytest.fixture(scope="module")
def workers(inputs: Path) -> Iterator[Workers]:
    """The warm process, which has imported torch once for all tests; a local run ends it, so ``inputs`` are first."""
    made = Workers(PRELOAD, 1)
    yield made
    made.close()


@pytest.fixture
def node(plan_of: Planner, store: Store, inputs: Path) -> StageNode:
    """A training whose inputs are there."""
    plan = plan_of(ONE + TRAIN)
    shutil.copytree(inputs, store.root / "artefacts")
    return next(each for each in plan.nodes.values() if each.stage == "train")


def start(workers: Workers, store: Store, node: StageNode, log: Path, identity: int = 0, **more: str) -> None:
    job = Job.of(node, fake_stages.HERE, store.root, Path.cwd(), processes=2).write()
    workers.start(identity, job, {"FAKE_LOG": str(log), "FAKE_STEP_S": "0.02", "FAKE_PARTNERS": "", **more})


def ends(workers: Workers, count: int, seconds: float = 120) -> list[int]:
    """The exit statuses of so many attempts, as they end."""
    codes: list[int] = []
    deadline = time.monotonic() + seconds
    while len(codes) < count:
        assert time.monotonic() < deadline, "an attempt does not end"
        codes += [code for _, code in workers.ended(0.05)]
    return codes


def end(workers: Workers) -> int:
    """The exit status of the attempt."""
    (code,) = ends(workers, 1)
    return code


def last(store: Store, node: StageNode) -> tuple[Path, dict[str, Any]]:
    """Folder and ending of the latest attempt."""
    folder = attempts.latest(store, node.stage, node.key)
    assert folder is not None
    record = attempts.outcome(folder)
    assert record is not None
    return folder, record


def processes(log: Path) -> list[int]:
    """The numbers of the processes that have met."""
    return [int(line.split()[2]) for line in events(log) if line.startswith("process ")]


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_both_work_and_the_record_counts_both(workers: Workers, store: Store, node: StageNode, fake_log: Path) -> None:
    start(workers, store, node, fake_log)
    assert end(workers) == attempt.EXIT_DONE
    assert store.is_done(node.stage, node.key)
    folder, ending = last(store, node)
    assert (folder / attempts.LOG).read_text().splitlines() == ["rank 0 met its partners", "this goes to the log"]
    assert (folder / attempts.PROCESSES / "1.log").read_text().splitlines() == ["rank 1 met its partners"]
    assert (ending["state"], ending["progress"]) == ("done", {"done": 8, "total": 8, "unit": "steps"})
    assert ending["max_rss_bytes"] > 3 * 50_000_000, "of three processes that have loaded torch"
    assert (read_json(folder / attempts.ATTEMPT) or {})["processes"] == 2
    assert len(processes(fake_log)) == 2
    assert not [pid for pid in processes(fake_log) if is_alive(pid)]


@pytest.mark.parametrize(
    ("told", "reason", "kind", "cause"),
    [
        ("1:user,0:wait", "rank 1 has nothing to train on; give it pairs", "qsd.errors.UserError", "user-code"),
        ("0:raise,1:wait", "ZeroDivisionError: rank 0", "ZeroDivisionError", "user-code"),
        ("1:kill,0:wait", "killed by SIGKILL; memory may be exhausted: process 2 of 2", None, "host-oom"),
        ("1:leave,0:wait", "exited with status 3 without an error record: process 2 of 2", None, "user-code"),
    ],
)
def test_the_first_that_fails_is_the_reason(
    workers: Workers, store: Store, node: StageNode, fake_log: Path, told: str, reason: str, kind: str, cause: str
) -> None:
    """Not the broken connection that its partner, waiting for it by gloo, fails of."""
    start(workers, store, node, fake_log, FAKE_PARTNERS=told)
    assert end(workers) == attempt.EXIT_FAILED
    folder, ending = last(store, node)
    assert (ending["state"], ending["reason"]) == ("failed", reason)
    assert (ending["error"] or {}).get("type") == kind
    assert cause_of(ending) == cause
    log = (folder / attempts.LOG).read_text()
    assert log.splitlines()[-1] == f"error: {reason}"
    if told.startswith("1"):
        assert "process 2 of 2 failed first; its last lines:\n  | rank 1 met its partners\n" in log
        assert "Connection" in log, "the partner's own end is told as well"
    assert not [pid for pid in processes(fake_log) if is_alive(pid)]
    assert store.claims.holder(node.key) is None


def test_a_partner_that_hears_nothing_is_ended(workers: Workers, store: Store, node: StageNode, fake_log: Path) -> None:
    """As NCCL lets a process wait for a dead one."""
    start(workers, store, node, fake_log, FAKE_PARTNERS="1:user,0:sleep")
    assert end(workers) == attempt.EXIT_FAILED
    assert last(store, node)[1]["reason"] == "rank 1 has nothing to train on; give it pairs"
    assert not [pid for pid in processes(fake_log) if is_alive(pid)]


def test_a_killed_attempt_leaves_no_process_and_its_work(
    workers: Workers, store: Store, node: StageNode, fake_log: Path
) -> None:
    start(workers, store, node, fake_log, FAKE_STEP_S="1")
    wait_for(lambda: f"step-3 train/{node.key}" in events(fake_log))  # so the state after step 2 is kept
    owner = store.claims.owner(node.key)
    assert owner is not None
    pids = processes(fake_log)
    assert len(pids) == 2
    assert all(is_alive(pid) for pid in pids)
    os.kill(owner.pid, signal.SIGKILL)
    assert end(workers) == -signal.SIGKILL
    wait_for(lambda: not [pid for pid in pids if is_alive(pid)])
    assert f"step-8 train/{node.key}" not in events(fake_log), "they were ended, and did not come to their end"
    start(workers, store, node, fake_log)
    assert end(workers) == attempt.EXIT_DONE
    steps = [events(fake_log)[f"step-{number} train/{node.key}"] for number in range(1, 9)]
    assert steps[:2] == [1, 1], "it went on from the checkpoint"
    assert sum(steps) <= 9


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_signal_reaches_all(
    workers: Workers, store: Store, node: StageNode, fake_log: Path, number: signal.Signals
) -> None:
    start(workers, store, node, fake_log, FAKE_STEP_S="1")
    wait_for(lambda: f"step-2 train/{node.key}" in events(fake_log))
    workers.signal(0, number)
    assert end(workers) == attempt.EXIT_INTERRUPTED
    folder, ending = last(store, node)
    assert (ending["state"], ending["signal"]) == ("interrupted", number.name)
    assert ending["progress"]["done"] >= 2
    told = [read_json(folder / attempts.PROCESSES / f"{rank}.json") or {} for rank in range(2)]
    assert [(each["state"], each["signal"]) for each in told] == [("interrupted", number.name)] * 2
    assert store.claims.holder(node.key) is None


def test_two_such_attempts_at_once_do_not_meet(
    workers: Workers, store: Store, plan_of: Planner, inputs: Path, fake_log: Path
) -> None:
    plan = plan_of(ONE.replace("seeds: [0]", "seeds: [0, 1]") + TRAIN)
    shutil.copytree(inputs, store.root / "artefacts")
    nodes = [each for each in plan.nodes.values() if each.stage == "train"]
    assert len(nodes) == 2
    for identity, each in enumerate(nodes):
        start(workers, store, each, fake_log, identity)
    assert ends(workers, 2) == [attempt.EXIT_DONE] * 2
    assert all(store.is_done(each.stage, each.key) for each in nodes)


def test_the_local_runner_gives_each_process_a_gpu(plan_of: Planner, store: Store, fake_log: Path) -> None:
    """Two processes on two of three GPUs; the third is for stages that need but one."""
    plan: Plan = plan_of(SMALL + "overrides: {training.processes: 2}\n")
    gpus = ("0", "GPU-7a", "3")
    result = local.run(plan, store, Lines(sys.stdout), None, fake_stages.HERE, PRELOAD, gpus)
    assert not result.failures
    assert result.ran == len(plan.nodes)
    held: set[str] = set()
    for line in fake_log.read_text().splitlines():
        verb, _, names = line.partition(" ")[0].partition("-")
        stage = line.partition(" ")[2].partition("/")[0]
        if verb == "enter":
            mine = set(names.split(","))
            assert not mine & held, "a GPU has one stage at a time"
            assert len(mine) == (2 if stage == "train" else 1)
            assert mine <= set(gpus)
            held |= mine
        elif verb == "leave":
            held -= set(names.split(","))
    assert fake_log.read_text().count("process 1 ") == 3


def test_more_processes_than_gpus_are_refused_before_anything_runs(
    plan_of: Planner, store: Store, fake_log: Path
) -> None:
    plan = plan_of(ONE + TRAIN)
    with pytest.raises(UserError, match="train is to run in 2 processes, a GPU each, but --gpus names 1"):
        local.run(plan, store, Lines(sys.stdout), 1, fake_stages.HERE, PRELOAD, ("0",))
    assert not fake_log.exists()


def test_places_are_taken_on_different_gpus() -> None:
    free = make_slots(2, ("0", "1"))[::-1]
    both = take(free, 2)
    assert both is not None
    assert environment(both) == {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert take(free, 3) is None
    assert len(free) == 2
    assert take(free, 1) == [{"CUDA_VISIBLE_DEVICES": "0"}]
    assert take(free, 2) is None, "a GPU's two places are not two GPUs"
    assert take([{}, {}], 1) == [{}]
    assert environment([{}]) == {}


def test_how_many_processes_a_training_has() -> None:
    count = spec.STAGES["train"].processes
    assert count is not None
    flat = {**FLAT, "training.pairs_per_step": 6, "device": "auto"}
    assert [count(flat, gpus) for gpus in (None, 0, 1, 4)] == [1, 1, 1, 4]
    asked = {**flat, "training.processes": 2}
    assert [count(asked, gpus) for gpus in (None, 0, 2, 4)] == [2, 2, 2, 2]
    assert count({**flat, "device": "cpu"}, 4) == 1
    assert count({**flat, "device": "cuda:1"}, 4) == 1
    with pytest.raises(
        UserError, match=r"training\.processes is 2, but the cluster profile gives a training 1 GPUs; make them equal"
    ):
        count(asked, 1)
    with pytest.raises(UserError, match=r"pairs_per_step is 6, but 8 processes would share it; use at most 6"):
        count(flat, 8)
    assert [name for name, stage in spec.STAGES.items() if stage.processes] == ["train"]
