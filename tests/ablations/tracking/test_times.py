"""A cell's time is that of its attempts; stages that cells share are in no cell's own time."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from ablations.tracking.times import NO_TIMES, cell_times
from qsd.run_store import RunStore


def attempt(runs, stage, number, start, ended=None, reached=None):
    folder = runs / "attempts" / stage / f"key_{stage}" / str(number)
    folder.mkdir(parents=True)
    (folder / "attempt.json").write_text(json.dumps({"start": datetime.fromtimestamp(start, UTC).isoformat()}))
    if ended is not None:
        (folder / "exit.json").write_text(json.dumps({"state": "done", "seconds": ended}))
    if reached is not None:
        report = {"done": 1, "total": 2, "unit": "steps", "seconds": reached, "per_second": 0.1}
        (folder / "progress.json").write_text(json.dumps(report))


def test_own_time_is_without_shared_stages_and_with_every_attempt(tmp_path):
    attempt(tmp_path, "score", 1, 1000, ended=50)
    attempt(tmp_path, "train", 1, 2000, reached=30)  # killed: its last report says how long it ran
    attempt(tmp_path, "train", 2, 3000, ended=100)
    attempt(tmp_path, "evaluate", 1, 4000, reached=7)  # still running
    stages = {stage: f"key_{stage}" for stage in ("score", "train", "evaluate")}
    times = cell_times(RunStore(tmp_path), stages, {"key_score"})
    assert (times.start, times.own) == (2000, 130)
    assert times.summary() == {
        "time/score_seconds": 50,
        "time/train_seconds": 130,
        "time/own_seconds": 130,
        "time/all_seconds": 180,
    }


def test_without_records_nothing_is_claimed(tmp_path):
    assert cell_times(RunStore(tmp_path), {"train": "key_train"}, set()) == NO_TIMES
    assert NO_TIMES.summary() == {}
