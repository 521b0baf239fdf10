"""Signals to real trainings: each ends after a whole step with a checkpoint, and the result is the same bytes."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver, get_context
from pathlib import Path
from typing import Any

import pytest

from ablations.grid.keys import StageNode
from ablations.grid.spec import read_sweep
from ablations.planning.plan import make_plan
from ablations.running import attempt
from ablations.running.stopping import SIGNALS
from ablations.running.workers import PRELOAD, Workers
from ablations.store import attempts
from ablations.store.artefacts import Store
from ablations.store.jobs import QSD, Job
from qsd.stages import spec
from tests.ablations import preloaded
from tests.ablations.kill import tree
from tests.ablations.tiny_project import make_project

STEPS = 100
"""Enough for each signal to come ten to twenty steps after the one before."""
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
PAIRS_PER_STEP = 4
"""Of the tiny project."""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """The warm process, which has imported torch once for all tests."""
    made = Workers(PRELOAD, 1)
    yield made
    made.close()


@pytest.fixture(scope="module")
def whole(workers: Workers, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(project, train node), which was trained undisturbed."""
    root = make_project(tmp_path_factory.mktemp("stop"))
    (root / "sweeps" / "one.yaml").write_text(SWEEP)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        plan = make_plan(read_sweep(Path("sweeps/one.yaml")), spec)
        for identity, node in enumerate(plan.nodes.values()):  # inputs stand before their users
            if node.stage not in ("generate", "evaluate"):
                workers.start(identity, Job.of(node, QSD, root / "runs", root).write(), {})
                assert wait(workers) == attempt.EXIT_DONE
        node = next(node for node in plan.nodes.values() if node.stage == "train")
        yield root, node


def ending(store: Store, node: StageNode) -> dict[str, Any]:
    folder = attempts.latest(store, node.stage, node.key)
    assert folder is not None
    record = attempts.outcome(folder)
    assert record is not None
    return record


@pytest.mark.parametrize(("numbers", "processes"), [(SIGNALS, 1), ([signal.SIGUSR2] * 2, 2)])
def test_a_stopped_training_loses_no_step_and_ends_in_the_same_bytes(
    numbers: Sequence[int], processes: int, whole: tuple[Path, StageNode], workers: Workers, tmp_path: Path
) -> None:
    """Those of an undisturbed training in one process, also where two share each step; one signal after the other."""
    root, node = whole
    done = Store(root / "runs", spec.key_of)
    store = Store(tmp_path / "runs", spec.key_of)
    for stage, key in node.inputs.items():
        shutil.copytree(done.artefact(stage, key), store.artefact(stage, key))
    job = Job.of(node, QSD, store.root, root, processes=processes).write()
    draw = random.Random(processes)
    metrics = store.partial(node.stage, node.key) / "metrics.jsonl"
    ten_steps = min(10 * PAIRS_PER_STEP / row["pairs_per_second"] for row in rates(done, node))
    reached: list[int] = []
    for identity, number in enumerate(numbers):
        workers.start(identity, job, {})
        before = rows(metrics)
        assert wait(workers, lambda before=before: rows(metrics) > before) is None, "still at work"
        # Any instant within a step; how many steps came before it does not depend on how busy the machine is.
        time.sleep(draw.random() * ten_steps)
        workers.signal(identity, number)
        assert wait(workers) == attempt.EXIT_INTERRUPTED, "the signal must hit a running training"
        record = ending(store, node)
        assert (record["state"], record["signal"]) == ("interrupted", signal.Signals(number).name)
        reached.append(record["progress"]["done"])
        assert kept_step(store, node) == reached[-1], "every step that was made is kept"
    workers.start(len(numbers), job, {})
    assert wait(workers) == attempt.EXIT_DONE
    assert reached == sorted(set(reached)), "each attempt goes on from where the one before it stopped"
    assert tree(store.artefact("train", node.key)) == tree(done.artefact("train", node.key))


def rates(store: Store, node: StageNode) -> list[dict[str, Any]]:
    """How fast the steps of the latest attempt were, ten at a time."""
    folder = attempts.latest(store, node.stage, node.key)
    assert folder is not None
    return [json.loads(line) for line in (folder / "rates.jsonl").read_text().splitlines()]


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
    measured = rates(store, node)
    assert [row["steps"] for row in measured] == list(range(10, STEPS + 1, 10))
    assert all(row["pairs_per_second"] > 0 and row["flops_per_second"] > 0 for row in measured)
    assert not (store.artefact(node.stage, node.key) / "rates.jsonl").exists()


def test_preloading_starts_no_thread_and_no_cuda(workers: Workers, whole: tuple[Path, StageNode]) -> None:
    """A fork of a process with threads may find their locks held for ever, and CUDA reads its devices only once."""
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    names = [path.read_text().strip() for path in Path(f"/proc/{server}/task").glob("*/comm")]
    assert len(names) == 1, names
    ours, its = get_context("forkserver").Pipe()
    child = get_context("forkserver").Process(
        target=preloaded.tell, args=(its, [*PRELOAD, "open_clip.model"], ["timm", "wandb"])
    )
    child.start()
    missing, needless, cuda = ours.recv()
    child.join()
    assert missing == [], "a child finds all of it imported"
    assert needless == []
    assert not cuda
