"""A reward model's training ends in the same bytes however it is interrupted, and alike in any number of processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from accelerate import PartialState

from qsd.errors import UserError
from qsd.reward_training.method import ChoicesMethod
from qsd.reward_training.schema import RewardTrainingConfig
from qsd.reward_training.train import train_reward
from qsd.runtime import silent
from qsd.training.processes import Processes
from tests.qsd import tiny_choices
from tests.qsd.tiny_choices import STEPS

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess

pytestmark = pytest.mark.slow

CHECKPOINT = Path(".state") / "checkpoint.safetensors"


class StoppedError(Exception):
    """Stands for a kill."""


def stop_after(count: int) -> object:
    """A report that stops the training when so many steps are done."""

    def report(done: int, total: int, unit: str) -> None:
        if unit == "steps" and done == count:
            raise StoppedError

    return report


def files(folder: Path) -> dict[str, bytes]:
    """Everything but the resumable state."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and ".state" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_choices.write_world(tmp_path_factory.mktemp("choices"))


@pytest.fixture(scope="module")
def recipe(world: Path) -> Path:
    return tiny_choices.write_recipe(world)


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A training that ran through."""
    output = tmp_path_factory.mktemp("whole") / "out"
    train_reward(recipe, [], output, silent)
    return files(output)


def test_what_is_written(whole: dict[str, bytes]) -> None:
    assert set(whole) == {
        ".qsd.json",
        "metrics.jsonl",
        "problems.json",
        "reward/config.json",
        "reward/trained.safetensors",
        "summary.json",
    }
    assert len(whole["metrics.jsonl"].splitlines()) == STEPS


@pytest.mark.parametrize("stopped_at", [1, 3, 5, STEPS])
def test_a_stopped_training_ends_in_the_same_bytes(
    recipe: Path, tmp_path: Path, whole: dict[str, bytes], stopped_at: int
) -> None:
    with pytest.raises(StoppedError):
        train_reward(recipe, [], tmp_path / "out", stop_after(stopped_at))
    assert (tmp_path / "out" / CHECKPOINT).exists() == (stopped_at > 3)
    train_reward(recipe, [], tmp_path / "out", silent)
    assert files(tmp_path / "out") == whole
    assert not (tmp_path / "out" / ".state").exists()


def test_a_damaged_checkpoint_is_not_used(recipe: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    with pytest.raises(StoppedError):
        train_reward(recipe, [], tmp_path / "out", stop_after(5))
    checkpoint = tmp_path / "out" / CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:-50])
    train_reward(recipe, [], tmp_path / "out", silent)
    assert files(tmp_path / "out") == whole


def test_a_finished_training_has_nothing_to_do(recipe: Path, tmp_path: Path) -> None:
    first = train_reward(recipe, [], tmp_path / "out", silent)
    again = train_reward(recipe, ["training.micro_batch=1", "threads=2"], tmp_path / "out", stop_after(1))
    assert again == first
    with pytest.raises(UserError, match="holds a reward model of another recipe"):
        train_reward(recipe, ["training.learning_rate=1e-4"], tmp_path / "out", silent)


def test_an_interrupted_training_of_another_recipe_is_not_continued(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train_reward(recipe, [], tmp_path / "out", stop_after(2))
    with pytest.raises(UserError, match="holds an interrupted run with other settings"):
        train_reward(recipe, ["seed=1"], tmp_path / "out", silent)


def train_in_child(recipe: Path, output: Path, settings: list[str], pause: float, environment: dict[str, str]) -> None:
    """The body of a forked process, which needs no seconds to import what this one has imported."""
    PartialState._reset_state()
    os.environ.update(environment)
    train_reward(recipe, settings, output, lambda *_: time.sleep(pause))


def start(
    recipe: Path, output: Path, *settings: str, pause: float = 0.0, environment: dict[str, str] | None = None
) -> ForkProcess:
    """A process that trains; it rests so many seconds after each step."""
    process = multiprocessing.get_context("fork").Process(
        target=train_in_child, args=(recipe, output, list(settings), pause, environment or {})
    )
    process.start()
    return process


def test_a_killed_process_ends_in_the_same_bytes(recipe: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """A real process and a real SIGKILL, as soon as the first checkpoint is there."""
    process = start(recipe, tmp_path / "out", pause=0.2)
    checkpoint = tmp_path / "out" / CHECKPOINT
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "out" / "summary.json").exists()
    train_reward(recipe, [], tmp_path / "out", silent)
    assert files(tmp_path / "out") == whole


def test_a_diverging_training_says_so(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training diverged: \w+ is (nan|inf) at step \d+"):
        train_reward(recipe, ["training.learning_rate=1e30", "training.steps=30"], tmp_path / "out", silent)


def test_micro_batches_change_nothing(recipe: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    train_reward(recipe, ["training.micro_batch=3"], tmp_path / "out", silent)
    assert tiny_choices.rows(tmp_path / "out") == [
        pytest.approx(json.loads(line), rel=1e-4, abs=1e-5) for line in whole["metrics.jsonl"].splitlines()
    ]


@pytest.mark.parametrize("settings", [[], ["training.micro_batch=1"]], ids=["whole", "micro-batches"])
def test_two_processes_train_like_one(
    recipe: Path, tmp_path: Path, whole: dict[str, bytes], settings: list[str]
) -> None:
    """Two processes that talk over gloo, each with half of every batch, against one with all of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    processes = [
        start(recipe, tmp_path / "out", *settings, environment={**group, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    for process in processes:
        process.join(timeout=300)
    assert [process.exitcode for process in processes] == [0, 0]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["processes"] == 2
    assert tiny_choices.rows(tmp_path / "out") == [
        pytest.approx(json.loads(line), rel=1e-4, abs=1e-5) for line in whole["metrics.jsonl"].splitlines()
    ]


def test_bf16_is_the_forward_pass_alone(recipe: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    process = start(recipe, tmp_path / "out", "training.precision=bf16", "training.checkpoint_steps=1")
    process.join(timeout=300)
    assert process.exitcode == 0
    fp32 = [json.loads(line)["loss"] for line in whole["metrics.jsonl"].splitlines()]
    bf16 = [row["loss"] for row in tiny_choices.rows(tmp_path / "out")]
    assert bf16 != fp32
    assert bf16 == pytest.approx(fp32, rel=0.1, abs=0.1)


def test_a_batch_that_processes_cannot_share_is_refused(world: Path) -> None:
    config = RewardTrainingConfig()
    config.training.batch = 4
    with pytest.raises(UserError, match=r"training\.batch is 4, which 3 processes cannot share"):
        ChoicesMethod(config, None, Processes(0, 3), torch.device("cpu"), None, None)  # type: ignore[arg-type]
