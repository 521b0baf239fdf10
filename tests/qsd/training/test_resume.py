"""Invariant 4: after SIGKILL the same command ends in the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qsd.files import read_table
from qsd.runtime import Interrupted
from qsd.stages.encode import run as encode
from qsd.stages.generate import run as generate
from qsd.stages.train import run as train
from qsd.training import checkpoint as checkpoints
from tests.qsd import tiny_world
from tests.qsd.tiny_stages import TinyStages

if TYPE_CHECKING:
    from types import ModuleType
from tests.qsd.training.stopping import StoppedError, files, stop_after

pytestmark = pytest.mark.slow

STEPS = 8
SETTINGS = {"training__steps": STEPS, "training__caption_dropout": 0.3, "training__checkpoint_steps": 3}


@pytest.fixture(scope="module")
def uninterrupted(world: TinyStages, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A training that ran through."""
    return files(world.run(train, tmp_path_factory.mktemp("whole"), **SETTINGS))


@pytest.mark.parametrize("stopped_at", [2, 3, 5, STEPS])
def test_a_stopped_training_ends_in_the_same_bytes(
    world: TinyStages, tmp_path: Path, uninterrupted: dict[str, bytes], stopped_at: int
) -> None:
    with pytest.raises(StoppedError):
        world.run(train, tmp_path, report=stop_after(stopped_at), **SETTINGS)
    world.run(train, tmp_path, **SETTINGS)
    assert files(tmp_path) == uninterrupted
    outgoing = {f"adapter/{name}" for name in ("README.md", "pytorch_lora_weights.safetensors", "kohya.safetensors")}
    assert set(uninterrupted) == outgoing | {"metrics.jsonl", "summary.json"}


@pytest.mark.parametrize("steps", [0, 1, 4, STEPS - 1])
def test_a_training_asked_to_stop_loses_no_step(
    world: TinyStages, tmp_path: Path, uninterrupted: dict[str, bytes], steps: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rarely = {**SETTINGS, "training__checkpoint_steps": 1000}
    context = tiny_world.context(world.config(**rarely), tmp_path, **world.artefacts)
    asked = iter([*[False] * steps, True])
    with pytest.raises(Interrupted, match=f"stopped after {steps} of {STEPS} steps"):
        train.run(replace(context, stopping=lambda: next(asked)))
    kept = checkpoints.load(context.state)
    assert (kept.step if kept else 0) == steps
    capsys.readouterr()
    train.run(context)
    assert f"{STEPS - steps} steps in" in capsys.readouterr().out
    assert files(tmp_path) == uninterrupted


def test_at_most_the_steps_since_the_checkpoint_are_repeated(
    world: TinyStages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StoppedError):
        world.run(train, tmp_path, report=stop_after(5), **SETTINGS)
    world.run(train, tmp_path, **SETTINGS)
    assert f"{STEPS - 3} steps in" in capsys.readouterr().out


def test_checkpoints_are_also_taken_by_time(world: TinyStages, tmp_path: Path) -> None:
    often = {**SETTINGS, "training__checkpoint_steps": 1000, "training__checkpoint_seconds": 1e-9}
    with pytest.raises(StoppedError):
        world.run(train, tmp_path, report=stop_after(3), **often)
    assert (tmp_path / ".state" / "checkpoint.safetensors").exists()


def test_a_damaged_checkpoint_is_not_used(world: TinyStages, tmp_path: Path, uninterrupted: dict[str, bytes]) -> None:
    with pytest.raises(StoppedError):
        world.run(train, tmp_path, report=stop_after(5), **SETTINGS)
    checkpoint = tmp_path / ".state" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    world.run(train, tmp_path, **SETTINGS)
    assert files(tmp_path) == uninterrupted


def test_a_killed_process_ends_in_the_same_bytes(
    world: TinyStages, tmp_path: Path, uninterrupted: dict[str, bytes]
) -> None:
    """A real process and a real SIGKILL, two steps after the first checkpoint, where the process waits for it."""
    script = (
        "import sys, time; from pathlib import Path; from qsd.stages.train import run as train\n"
        "from tests.qsd.tiny_stages import TinyStages\n"
        "root, output = map(Path, sys.argv[1:])\n"
        "artefacts = {name: root / name for name in ('data', 'select', 'encode')}\n"
        "wait = lambda done, total, unit: time.sleep(300) if done == 5 else None\n"
        f"TinyStages(root, artefacts).run(train, output, wait, **{SETTINGS!r})"
    )
    command = [sys.executable, "-c", script, str(world.root), str(tmp_path)]
    place = Path(__file__).parents[3]
    process = subprocess.Popen(command, cwd=place, env={**os.environ, "PYTHONPATH": str(place)})
    checkpoint = tmp_path / ".state" / "checkpoint.safetensors"
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert checkpoint.exists()
    assert not (tmp_path / "summary.json").exists()
    world.run(train, tmp_path, **SETTINGS)
    assert files(tmp_path) == uninterrupted


@pytest.mark.parametrize(("stage", "unit"), [(encode, "captions"), (generate, "images")])
def test_encode_and_generate_go_on_where_they_stopped(
    world: TinyStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: ModuleType, unit: str
) -> None:
    monkeypatch.setattr("qsd.encoding.shards.ROWS", 5)
    monkeypatch.setattr("qsd.stages.generate.run.SHARD_IMAGES", 4)
    settings = {"adapter": "none"}
    whole = files(world.run(stage, tmp_path / "whole", **settings))

    def stop(done: int, total: int, of: str) -> None:
        if of == unit and done >= 9:  # of images one shard may wait for its compression while the next is drawn
            raise StoppedError

    with pytest.raises(StoppedError):
        world.run(stage, tmp_path / "again", report=stop, **settings)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "again").glob("*-00000.*")}
    assert kept
    world.run(stage, tmp_path / "again", **settings)
    assert files(tmp_path / "again") == whole
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


def test_a_damaged_latent_shard_is_computed_again(world: TinyStages, tmp_path: Path) -> None:
    whole = files(world.run(encode, tmp_path))
    shard = tmp_path / "latents-00000.npy"
    shard.write_bytes(shard.read_bytes()[:-8])
    (tmp_path / "summary.json").unlink()
    assert files(world.run(encode, tmp_path)) == whole
    assert read_table(tmp_path / "pairs.parquet").num_rows == 12
