"""A real training followed by the W&B projection after every step and killed twice: each row is sent once, whole."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ablations.tracking.curves import curves
from ablations.tracking.project import project_sweep
from qsd.stages.train import run as train
from qsd.training import metrics
from tests.ablations.tracking.fake_wandb import FakeWandb, offline
from tests.analysis.synthetic import seal, stage_key
from tests.qsd import tiny_stages, tiny_world
from tests.qsd.tiny_stages import pair_ids, select
from tests.qsd.training.stopping import StoppedError, stop_after

if TYPE_CHECKING:
    from pathlib import Path

    from tests.qsd.tiny_stages import TinyStages

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
KEY = stage_key("train")
STEPS = 11
SETTINGS = {
    "training__steps": STEPS,
    "training__pairs_per_step": 2,
    "training__checkpoint_steps": 4,
    "training__validation_pairs": 4,
    "training__validation_steps": 3,
    "loss__name": "sft",
}


def write_cells(folder: Path) -> Path:
    folder.mkdir(parents=True)
    cell = {"role": "grid", "seed": 0, "cell_id": "c", "name": "c", "axes": {}, "stages": {"train": KEY}}
    content = {"sweep": "s", "experiment": "e", "git_commit": "0", "cells": [cell]}
    (folder / "cells.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyStages:
    """A tiny world with the stages data, select and encode done."""
    return tiny_stages.make(tmp_path_factory.mktemp("world"))


@pytest.mark.slow
def test_a_killed_training_is_shown_once_and_whole(
    world: TinyStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the first checkpoint, and with rows beyond the last one."""
    few = world.with_inputs(select=select(tmp_path / "few", pair_ids(world)[:7]))
    sweep = write_cells(tmp_path / "sweeps" / "s@e")
    partial, done = (tmp_path / place / "train" / KEY for place in ("partial", "artefacts"))
    attempts = [tmp_path / "attempts" / "train" / KEY / str(number) for number in (1, 2, 3)]
    monkeypatch.setattr(metrics, "FLUSH_STEPS", 3)
    with monkeypatch.context() as patch:
        online = FakeWandb()
        patch.setitem(sys.modules, "wandb", online)
        for attempt, last in zip(attempts, (3, 9, STEPS + 1), strict=True):
            killed = stop_after(last)

            def report(step: int, total: int, unit: str, killed: Any = killed) -> None:
                project_sweep(tmp_path, sweep, "online")
                killed(step, total, unit)

            attempt.mkdir(parents=True)
            context = tiny_world.context(few.config(**SETTINGS), partial, report, **few.artefacts)
            try:
                train.run(replace(context, attempt=attempt))
            except StoppedError:
                assert last < STEPS
        context.clear_state()
        assert "rates.jsonl" not in [path.name for path in partial.iterdir()]
        done.parent.mkdir(parents=True)
        partial.rename(done)
        seal(done, "train", KEY)
        assert project_sweep(tmp_path, sweep, "online") == ["s-e-c-s0"]
        assert project_sweep(tmp_path, sweep, "online") == []

    expected = curves(done, attempts, live=False)
    sent = [call for call in online.calls if call[0] == "log"]
    assert [(step, row) for _, step, row in sent] == [(row["global_step"], row) for row in expected]
    assert len([call for call in online.calls if call[0] == "init"]) > 5, "it was followed, not sent at the end"

    steps = {name: [row["global_step"] for row in expected if name in row] for name in set().union(*expected)}
    assert steps["train/loss"] == list(range(STEPS))
    assert steps["validation/implicit_accuracy"] == [3, 6, 9, 11]
    assert steps["rate/pairs_per_second"] == steps["rate/flops_per_second"] == [3, 7, 11], "3 steps after a checkpoint"
    assert "rate/share_of_peak" not in steps, "the peak of a CPU is not known"
    assert all(row.get("rate/pairs_per_second", 1) > 0 for row in expected)

    assert project_sweep(tmp_path, sweep, "offline") == ["s-e-c-s0"]
    history = offline(sweep)["s-e-c-s0"].history
    assert [{name: value for name, value in row.items() if not name.startswith("_")} for row in history] == expected


def test_rows_after_the_last_step_are_held_back_while_a_training_goes_on(tmp_path: Path) -> None:
    """Metrics are written some steps at a time: a validation may be there before the steps before it."""
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "loss": 1.0}\n{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    (tmp_path / "validation.jsonl").write_text(
        '{"steps": 1, "pairs": 2, "x": 0.1}\n{"steps": 3, "pairs": 2, "x": 0.2}\n'
    )
    first = [{"global_step": 0, "train/loss": 1.0}, {"global_step": 1, "train/loss": 0.5, "validation/x": 0.1}]
    assert curves(tmp_path, [], live=True) == first
    assert curves(tmp_path, [], live=False) == [*first, {"global_step": 3, "validation/x": 0.2}]


def test_files_of_two_attempts_are_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that begins anew cuts the files, between the reading of one and of the other."""
    from ablations.tracking import curves as module

    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "loss": 1.0}\n')
    read = module._lines

    def cut(path: Path) -> list[dict[str, Any]]:
        content = read(path)
        if path.name == "metrics.jsonl":
            path.write_text("")
        return content

    monkeypatch.setattr(module, "_lines", cut)
    assert curves(tmp_path, [], live=True) == []
