"""The W&B projection, with real offline runs whose files are read back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ablations.tracking.contents import cell_runs
from ablations.tracking.project import pending, project_sweep, tracked_runs
from qsd.config.load import nested
from tests.ablations.tracking.fake_wandb import FakeWandb, offline
from tests.analysis.synthetic import (
    Cell,
    World,
    metrics_row,
    seal,
    stage_keys,
    write_evaluate,
    write_sweep,
    write_train,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
STEPS = 7


@pytest.fixture
def world():
    cells = [
        Cell("metric=product", 0.3, axes={"quality.metric": "product", "lora.rank": 8}, seeds=(0, 1)),
        Cell("base model", role="base", seeds=(None,), reward_model=None),
    ]
    return World(cells, "metric=product", prompts={"evaluation": 6, "seen": 3}, steps=STEPS, pictures=False)


@pytest.fixture
def sweep(tmp_path, world):
    return write_sweep(tmp_path, world)


def identity(world, index, seed, suffix):
    from tests.analysis.synthetic import key_of

    return f"metric_formula-emoji-{key_of(world.cells[index].name, seed)[:10]}-{suffix}"


def mean_of(runs, key, split, scorer):
    table = pq.read_table(runs / "artefacts" / "evaluate" / key / "scores.parquet")
    chosen = table.filter((pc.field("split") == split) & (pc.field("scorer") == scorer))
    return pc.mean(chosen["score"].cast("float64")).as_py()


@pytest.mark.slow
def test_an_offline_run_holds_config_history_and_scores(tmp_path, world, sweep):
    """An attempt with rates from step 5 on replaces those of the one before."""
    trained = stage_keys(world.cells[0], 1)["train"]
    write_validation(tmp_path / "artefacts" / "train" / trained, [4, STEPS + 1])
    write_rates(tmp_path / "attempts" / "train" / trained / "2", {4: 10.0, 6: 11.0})
    write_rates(tmp_path / "attempts" / "train" / trained / "10", {5: 20.0, STEPS + 1: 30.0})
    expected = [identity(world, 0, 0, "s0"), identity(world, 0, 1, "s1"), identity(world, 1, None, "base")]
    assert project_sweep(tmp_path, sweep, "offline") == expected
    runs = offline(sweep)
    assert sorted(runs) == sorted(expected)

    run = runs[expected[1]]
    assert (run.run.run_group, run.run.job_type, run.run.display_name) == (
        "metric_formula@emoji",
        "grid",
        expected_name(1),
    )
    assert sorted(run.run.tags) == ["lora.rank=8", "quality.metric=product"]
    assert run.config["axes"] == {"quality": {"metric": "product"}, "lora": {"rank": 8}}
    assert (run.config["seed"], run.config["is_baseline"], run.config["experiment"]) == (1, True, "emoji")
    assert run.config["stages"] == stage_keys(world.cells[0], 1)
    assert not any("." in key for key in run.config)

    assert [row["global_step"] for row in run.history] == list(range(1, STEPS + 2))
    steps = [row for row in run.history if "train/loss" in row]
    assert [row["global_step"] for row in steps] == list(range(1, STEPS + 1))
    last = metrics_row(STEPS, 1)
    assert steps[-1]["train/loss"] == last["loss"]
    assert steps[-1]["train/implicit_accuracy"] == last["implicit_accuracy"]
    assert steps[-1]["train/winner_error_minus_reference"] == last["winner_error"] - 0.5
    assert steps[-1]["train/loser_error_minus_reference"] == last["loser_error"] - 0.6
    assert run.history[3] == {**run.history[3], **shown_validation(4), **shown_rate(10.0)}, "all of a step in one row"
    assert run.history[4] == {**run.history[4], **shown_rate(20.0)}
    assert "rate/pairs_per_second" not in run.history[5], "of step 6 the second attempt has no rate"
    assert {name: value for name, value in run.history[-1].items() if not name.startswith("_")} == {
        "global_step": STEPS + 1,
        **shown_validation(STEPS + 1),
        **shown_rate(30.0),
    }
    other = runs[expected[0]]
    assert not any(name.startswith(("validation/", "rate/")) for row in other.history for name in row)

    own = mean_of(tmp_path, stage_keys(world.cells[0], 1)["evaluate"], "evaluation", "judge")
    base = mean_of(tmp_path, stage_keys(world.cells[1], None)["evaluate"], "evaluation", "judge")
    assert run.summary["scores/evaluation/judge/mean"] == pytest.approx(own)
    assert run.summary["scores/evaluation/judge/difference_to_base"] == pytest.approx(own - base)
    assert "scores/seen/aesthetic/mean" in run.summary
    assert run.exit_code == 0

    of_base = runs[expected[2]]
    assert of_base.run.job_type == "base"
    assert not any("difference_to_base" in key or "train/" in key for key in of_base.summary)


def write_validation(folder, steps):
    rows = [{"steps": step, "pairs": 6, **of_validation(step)} for step in steps]
    (folder / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def of_validation(step):
    return {"winner_error": 0.5 - step / 100, "ref_winner_error": 0.5, "implicit_accuracy": 0.5 + step / 100}


def shown_validation(step):
    values = of_validation(step)
    difference = values["winner_error"] - values["ref_winner_error"]
    shown = {f"validation/{name}": value for name, value in values.items()}
    return {**shown, "validation/winner_error_minus_reference": difference}


def write_rates(folder, rates):
    folder.mkdir(parents=True)
    rows = [
        {"steps": step, "pairs_per_second": pairs, "flops_per_second": 1e9 * pairs, "share_of_peak": None}
        for step, pairs in rates.items()
    ]
    (folder / "rates.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def shown_rate(pairs):
    return {"rate/pairs_per_second": pairs, "rate/flops_per_second": 1e9 * pairs}


def expected_name(seed):
    return f"metric=product seed {seed}"


@pytest.mark.slow
def test_nothing_new_sends_nothing_and_does_not_import_wandb(tmp_path, sweep):
    project_sweep(tmp_path, sweep, "offline")
    before = {path: path.stat().st_mtime_ns for path in sweep.rglob("*")}
    script = (
        "import sys, pathlib; from ablations.tracking.project import project_sweep;"
        "print(project_sweep(*map(pathlib.Path, sys.argv[1:3]), 'offline'), 'wandb' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(sweep)], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[] False"
    assert {path: path.stat().st_mtime_ns for path in sweep.rglob("*")} == before


def test_the_difference_to_the_base_model_is_to_that_of_the_cell(tmp_path):
    """A sweep over guidance scales has a base model for each."""
    cells = [
        Cell("g=1", 0.0, base="base,g=1", seeds=(0,), reward_model=None),
        Cell("g=3", 2.0, base="base,g=3", seeds=(0,), reward_model=None),
        Cell("base,g=1", 0.0, role="base", seeds=(None,), reward_model=None),
        Cell("base,g=3", 2.0, role="base", seeds=(None,), reward_model=None),
    ]
    folder = write_sweep(tmp_path, World(cells, "g=1", prompts={"evaluation": 20}, steps=2, pictures=False))
    runs = {run.name: run for run in cell_runs(tmp_path, folder, live=False)}
    for cell in ("g=1", "g=3"):
        assert abs(runs[f"{cell} seed 0"].final()["scores/evaluation/judge/difference_to_base"]) < 0.5


def test_disabled_does_nothing(tmp_path, sweep):
    assert pending(tmp_path, sweep, "disabled") == []
    assert project_sweep(tmp_path, sweep, "disabled") == []
    assert not (sweep / "wandb").exists()


@pytest.mark.slow
def test_results_that_come_later_replace_the_offline_run(tmp_path, world):
    world.cells[0].absent = (0, 1)
    world.cells[1].absent = (None,)
    folder = write_sweep(tmp_path, world)
    assert project_sweep(tmp_path, folder, "offline") == []
    cell = world.cells[0]
    write_train(tmp_path, stage_keys(cell, 0)["train"], STEPS, 0)
    run_id = identity(world, 0, 0, "s0")
    assert project_sweep(tmp_path, folder, "offline") == [run_id]
    assert not any(key.startswith("scores/") for key in offline(folder)[run_id].summary)

    write_evaluate(tmp_path, stage_keys(cell, 0)["evaluate"], world, cell, 0)
    assert project_sweep(tmp_path, folder, "offline") == [run_id]
    run = offline(folder)[run_id]
    assert "scores/evaluation/judge/mean" in run.summary
    assert "scores/evaluation/judge/difference_to_base" not in run.summary
    assert len([row for row in run.history if "train/loss" in row]) == STEPS

    write_evaluate(tmp_path, stage_keys(world.cells[1], None)["evaluate"], world, world.cells[1], None)
    assert project_sweep(tmp_path, folder, "offline") == [run_id, identity(world, 1, None, "base")]
    assert "scores/evaluation/judge/difference_to_base" in offline(folder)[run_id].summary


@pytest.mark.slow
@pytest.mark.parametrize("at", ["init", "cursor"])
def test_a_kill_leaves_no_second_folder(tmp_path, sweep, at):
    """SIGKILL within the second run, before or after wandb has finished it; then the same call again."""
    places = {"init": "contents.CellRun.final", "cursor": "project.write_cursor"}
    script = f"""
import os, pathlib, signal, sys
from ablations.tracking import contents, project
original, calls = {places[at]}, []
def killing(*arguments):
    calls.append(0)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)
{places[at]} = killing
project.project_sweep(*map(pathlib.Path, sys.argv[1:3]), "offline")
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path), str(sweep)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(sweep.glob("wandb/offline-run-*"))) == {"init": 2, "cursor": 3}[at]
    assert len(project_sweep(tmp_path, sweep, "offline")) == {"init": 3, "cursor": 2}[at]
    runs = offline(sweep)
    assert len(runs) == 3
    assert all(run.exit_code == 0 and "scores/seen/judge/mean" in run.summary for run in runs.values())


@pytest.mark.slow
def test_no_secret_and_nothing_of_the_machine_is_written(tmp_path, world, sweep, monkeypatch):
    """Nor anything outside ``runs/``."""
    home = tmp_path / "home"
    home.mkdir()
    secret = "5ec7e7" * 6 + "abcd"
    environment = {**os.environ, "WANDB_API_KEY": secret, "HOME": str(home), "MY_TOKEN": secret}
    script = (
        "import sys, pathlib; from ablations.tracking.project import project_sweep;"
        "print(len(project_sweep(*map(pathlib.Path, sys.argv[1:3]), 'offline')))"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(sweep), f"--token={secret}"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, cwd=home)
    assert done.stdout.strip() == "3"
    written = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in written if secret.encode() in path.read_bytes()]
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_online_resumes_and_sends_only_new_rows_of_a_running_training(tmp_path, world, monkeypatch):
    world.cells[0].absent = (0, 1)
    world.cells[1].absent = (None,)
    folder = write_sweep(tmp_path, world)
    key = stage_keys(world.cells[0], 0)["train"]
    partial = tmp_path / "partial" / "train" / key
    partial.mkdir(parents=True)
    lines = [json.dumps(metrics_row(step, 0)) + "\n" for step in range(1, STEPS + 1)]
    (partial / "metrics.jsonl").write_text("".join(lines[:3]) + lines[3][:20])
    assert pending(tmp_path, folder, "offline") == []

    run_id = identity(world, 0, 0, "s0")
    first = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", first)
    assert project_sweep(tmp_path, folder, "online") == [run_id]
    assert first.calls[0] == ("init", run_id, "allow", "online")
    assert [call[1] for call in first.calls if call[0] == "log"] == [1, 2, 3]
    assert project_sweep(tmp_path, folder, "online") == []

    write_train(tmp_path, key, STEPS, 0)
    second = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", second)
    assert project_sweep(tmp_path, folder, "online") == [run_id]
    assert [call[1] for call in second.calls if call[0] == "log"] == [4, 5, 6, 7]
    assert second.calls[-1] == ("teardown",)


def test_a_diverged_training_is_shown_with_what_it_wrote(tmp_path, world):
    folder = write_sweep(tmp_path, world)
    key = stage_keys(world.cells[0], 1)["train"]
    content = json.loads((folder / "cells.json").read_text())
    cell = next(cell for cell in content["cells"] if cell["stages"].get("train") == key)
    cell |= {"state": "diverged", "reason": "training diverged: loss is nan at step 3"}
    (folder / "cells.json").write_text(json.dumps(content))
    for stage in ("train", "evaluate"):
        artefact = tmp_path / "artefacts" / stage / cell["stages"][stage]
        partial = tmp_path / "partial" / stage / artefact.name
        partial.parent.mkdir(parents=True)
        artefact.rename(partial)
    run = next(run for run in tracked_runs(tmp_path, folder, live=False) if run.config["cell_id"] == cell["cell_id"])
    assert (run.config["state"], run.config["reason"]) == ("diverged", cell["reason"])
    assert "diverged" in run.tags
    assert not run.live
    assert len(run.history()) == STEPS
    assert run.scores is None


@pytest.mark.parametrize("failure", ["missing", "raises", "no cells"])
def test_failure_is_one_line_of_warning(tmp_path, sweep, monkeypatch, caplog, failure):
    fake = FakeWandb(RuntimeError("no network\nat all")) if failure == "raises" else None
    monkeypatch.setitem(sys.modules, "wandb", fake)
    if failure == "no cells":
        (sweep / "cells.json").write_text("{")
    assert project_sweep(tmp_path, sweep, "online") == []
    assert len(caplog.records) == 1
    assert "\n" not in caplog.messages[0]
    assert "W&B (online) not up to date" in caplog.messages[0]
    if failure == "raises":
        assert "no network at all" in caplog.messages[0]
        assert len(pending(tmp_path, sweep, "online")) == 3


def test_losses_without_a_reference_have_no_difference(tmp_path, world):
    folder = write_sweep(tmp_path, world)
    key = stage_keys(world.cells[0], 0)["train"]
    row = metrics_row(1, 0) | {"ref_winner_error": None, "ref_loser_error": None, "implicit_accuracy": None}
    train = tmp_path / "artefacts" / "train" / key
    (train / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    seal(train, "train", key)
    shown = tracked_runs(tmp_path, folder, live=False)[0].history()[0]
    assert shown["train/winner_error"] == row["winner_error"]
    assert not [name for name in shown if "reference" in name or "accuracy" in name]


def test_nested_has_no_dots():
    assert nested({"a.b": 1, "a.c": 2, "d": 3}) == {"a": {"b": 1, "c": 2}, "d": 3}
