"""Signals to real trainings: each ends after a whole step with a checkpoint, and the result is the same bytes."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ablations.grid.keys import StageNode
from ablations.grid.spec import read_sweep
from ablations.planning.plan import make_plan
from ablations.running import attempt, local
from ablations.running.display import Display, Lines
from ablations.running.stopping import SIGNALS
from ablations.running.workers import PRELOAD, Workers
from ablations.store import attempts
from ablations.store.artefacts import Store
from ablations.store.jobs import QSD, Job
from qsd.stages import spec
from tests.ablations.kill import tree
from tests.ablations.tiny_project import make_project

STEPS = 80
SWEEP = f"""\
question: Does a stop change anything?
experiment: tiny
axes: {{quality.metric: [product]}}
baseline: {{quality.metric: product}}
overrides:
  training.steps: {STEPS}
  training.micro_batch: 2
  training.checkpoint_steps: 1000
  training.checkpoint_seconds: 1000
seeds: [0]
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(project, train node), which was trained undisturbed."""
    root = make_project(tmp_path_factory.mktemp("stop"))
    (root / "sweeps" / "one.yaml").write_text(SWEEP)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        plan = make_plan(read_sweep(Path("sweeps/one.yaml")), spec)
        store = Store(root / "runs", spec.key_of)
        with Path("log").open("w") as log:
            display: Display = Lines(log)
            before = {key for key, node in plan.nodes.items() if node.stage not in ("generate", "evaluate")}
            result = local.run(plan, store, display, 1, only=before)
        assert result.failures == []
        node = next(node for node in plan.nodes.values() if node.stage == "train")
        yield root, node


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """The warm process, which has imported torch once for all tests."""
    made = Workers(PRELOAD, 1)
    yield made
    made.close()


def ending(store: Store, node: StageNode) -> dict[str, Any]:
    folder = attempts.latest(store, node.stage, node.key)
    assert folder is not None
    found = attempts.outcome(folder)
    assert found is not None
    return found


@pytest.mark.parametrize(("number", "processes"), [*((number, 1) for number in SIGNALS), (signal.SIGUSR2, 2)])
def test_a_stopped_training_loses_no_step_and_ends_in_the_same_bytes(
    number: int, processes: int, whole: tuple[Path, StageNode], workers: Workers, tmp_path: Path
) -> None:
    """Those of an undisturbed training in one process, also where two share each step."""
    root, node = whole
    done = Store(root / "runs", spec.key_of)
    store = Store(tmp_path / "runs", spec.key_of)
    for stage, key in node.inputs.items():
        shutil.copytree(done.artefact(stage, key), store.artefact(stage, key))
    job = Job.of(node, QSD, store.root, root, processes=processes).write()
    draw = random.Random(number)
    metrics = store.partial(node.stage, node.key) / "metrics.jsonl"
    reached: list[int] = []
    for identity in range(STEPS):
        workers.start(identity, job, {})
        code = at_work(workers, metrics, draw.random())
        if code is None:
            workers.signal(identity, number)
            code = wait(workers)
        if code == attempt.EXIT_DONE:
            break
        assert code == attempt.EXIT_INTERRUPTED
        found = ending(store, node)
        assert (found["state"], found["signal"]) == ("interrupted", signal.Signals(number).name)
        reached.append(found["progress"]["done"])
        assert kept_step(store, node) == reached[-1], "every step that was made is kept"
    assert len(reached) >= 2, "the signals must hit a running training"
    assert reached == sorted(set(reached)), "each attempt goes on from where the one before it stopped"
    assert tree(store.artefact("train", node.key)) == tree(done.artefact("train", node.key))


def at_work(workers: Workers, metrics: Path, share: float) -> int | None:
    """Wait for 20 steps of the attempt, then for a share of the time that its second ten took.

    Thus the instant is any within a step, but the count of steps before it does not hang on how busy the machine is.

    Returns:
        Its exit status, if it ends before.
    """
    seen: list[float] = []
    for _ in range(2):
        before = rows(metrics)
        code = wait(workers, lambda before=before: rows(metrics) > before)
        if code is not None:
            return code
        seen.append(time.monotonic())
    time.sleep(share * (seen[1] - seen[0]))
    return None


def rows(path: Path) -> int:
    """Written so far, which is done ten steps at a time."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait(workers: Workers, until: Callable[[], bool] = lambda: False) -> int | None:
    """The exit status of the attempt, or None once ``until`` holds."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for _, code in workers.ended(0.01):
            return code
        if until():
            return None
    raise AssertionError("the attempt does not end")


def kept_step(store: Store, node: StageNode) -> int:
    from safetensors import safe_open

    with safe_open(store.partial(node.stage, node.key) / ".state" / "checkpoint.safetensors", "pt") as stored:
        return int(stored.metadata()["step"])


def test_an_attempt_keeps_the_rates_of_its_training(whole: tuple[Path, StageNode]) -> None:
    """Beside its log: an artefact holds no times."""
    root, node = whole
    store = Store(root / "runs", spec.key_of)
    folder = attempts.latest(store, node.stage, node.key)
    assert folder is not None
    rows = [json.loads(line) for line in (folder / "rates.jsonl").read_text().splitlines()]
    assert [row["steps"] for row in rows] == list(range(10, STEPS + 1, 10))
    assert all(row["pairs_per_second"] > 0 and row["flops_per_second"] > 0 for row in rows)
    assert not (store.artefact(node.stage, node.key) / "rates.jsonl").exists()
