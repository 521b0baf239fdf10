"""Whether a stage is finished: one answer for the grid runner, the analysis and the W&B projection."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ablations.store.artefacts import Store
from ablations.tracking.project import tracked_runs
from analysis.data.sweep import artefact
from qsd.run_store import Record, RunStore, key_of
from qsd.stages import spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MEANING = {"evaluation.scorers": ["judge"]}
KEY = key_of("evaluate", 1, MEANING, {})


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """The folder of a finished stage in the run store ``tmp_path``."""
    store = Store(tmp_path, spec.key_of)
    folder = store.partial("evaluate", KEY)
    folder.mkdir(parents=True)
    (folder / "scores.parquet").write_text("scores")
    store.seal(Record("evaluate", 1, KEY, MEANING, {}, {}))
    return store.artefact("evaluate", KEY)


def change_record(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "record.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def answers(runs: Path) -> list[bool]:
    """What each of the readers says."""
    sweep = runs / "sweeps" / "s@e"
    sweep.mkdir(parents=True, exist_ok=True)
    cell = {"role": "base", "seed": None, "cell_id": "c", "name": "c", "axes": {}, "stages": {"evaluate": KEY}}
    content = {"sweep": "s", "experiment": "e", "git_commit": "0", "cells": [cell]}
    (sweep / "cells.json").write_text(json.dumps(content))
    return [
        Store(runs, spec.key_of).is_done("evaluate", KEY),
        RunStore(runs).finished("evaluate", KEY) is not None,
        artefact(runs, "evaluate", KEY) is not None,
        bool(tracked_runs(runs, sweep, live=False)),
    ]


def test_a_sealed_stage_is_finished_for_all(sealed: Path) -> None:
    assert answers(sealed.parents[2]) == [True] * 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "scores.parquet").unlink(),
        lambda folder: (folder / "scores.parquet").write_text("sco"),
        lambda folder: (folder / "record.json").unlink(),
        lambda folder: (folder / "record.json").write_text("{"),
        change_record(meaning={"evaluation.scorers": ["another"]}),
        change_record(version=2),
        change_record(key="0" * 32),
        change_record(stage="score"),
        change_record(files={"scores.parquet": 6}),
        change_record(files={"scores.parquet": {}}),
        change_record(files={"a\0b": {"sha256": "", "bytes": 6}}),
    ],
)
def test_a_damaged_stage_is_finished_for_none(damage: Callable[[Path], None], sealed: Path) -> None:
    damage(sealed)
    assert answers(sealed.parents[2]) == [False] * 4


def test_no_key_is_not_finished(tmp_path: Path) -> None:
    assert RunStore(tmp_path).finished("evaluate", None) is None
    assert RunStore(tmp_path).problem("evaluate", KEY) == "absent"


def test_attempts_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    assert store.attempt_folders("train", KEY) == []
    for name in ("10", "9", "x", ".1"):
        (store.attempts("train", KEY) / name).mkdir(parents=True)
    assert [folder.name for folder in store.attempt_folders("train", KEY)] == ["9", "10"]
