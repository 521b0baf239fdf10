"""Someone who opens only W&B: settings to filter by, the answer with intervals, times, images, the report, a view.

Everything is read back from the files that would be uploaded, and uploaded by ``wandb sync`` to a server of this test.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ablations.commands.wandb import group as commands
from ablations.tracking.comparisons import TABLE_COLUMNS
from ablations.tracking.destination import place_of
from ablations.tracking.project import project_sweep, tracked_runs
from ablations.tracking.upload import push_line, to_upload, upload
from ablations.tracking.workspace import specification, sweep_workspace
from analysis import report
from analysis.data.rows import read_rows
from qsd.errors import UserError
from tests.ablations.tracking.fake_wandb import offline
from tests.ablations.tracking.wandb_server import server
from tests.analysis.synthetic import Cell, World, key_of, stage_keys, write_sweep

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
KEY = "0123456789" * 4
START, TRAINED, EVALUATED = 1_700_000_000, 100.0, 20.25
LOG = "/srv/someone/runs/log.txt"
SETTINGS = {
    "training.learning_rate": 1e-4,
    "lora.rank": 8,
    "loss.beta": 5000.0,
    "model.path": "/srv/someone/models/sd15",
}


def world_of() -> World:
    cells = [
        Cell("rank=8", 0.3, axes={"lora.rank": 8}, seeds=(0, 1, 2), reward_model=None),
        Cell("rank=16", 0.9, axes={"lora.rank": 16}, seeds=(0, 1, 2), diverged=(), reward_model=None),
        Cell("rank=32", 0.1, axes={"lora.rank": 32}, seeds=(0, 1, 2), diverged=(1,), reward_model=None),
        Cell("base model", role="base", seeds=(None,), reward_model=None),
    ]
    scorers = {"judge": ("logit", 1.0), "aesthetic": ("points", 0.5)}
    return World(cells, "rank=8", scorers, prompts={"evaluation": 12, "seen": 4}, steps=3, pixels=16)


def run_id(cell: str, seed: int | None) -> str:
    return f"metric_formula-emoji-{key_of(cell, seed)[:10]}-{'base' if seed is None else f's{seed}'}"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store whose sweep has tables, settings and attempts, and the sweep's folder with its offline runs."""
    runs = tmp_path_factory.mktemp("answer") / "runs"
    world = world_of()
    folder = write_sweep(runs, world)
    settings = {
        key_of(cell.name, seed)[:10]: {} if cell.role == "base" else SETTINGS | {"seed": seed, **cell.axes}
        for cell in world.cells
        for seed in cell.seeds
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    content = json.loads((folder / "cells.json").read_text())
    for entry in content["cells"]:
        entry["reason"] = entry["reason"] and f"{entry['reason']} ({LOG})"
    (folder / "cells.json").write_text(json.dumps(content))
    keys = stage_keys(world.cells[1], 2)
    for stage, seconds in (("train", TRAINED), ("evaluate", EVALUATED)):
        attempt = runs / "attempts" / stage / keys[stage] / "1"
        attempt.mkdir(parents=True)
        (attempt / "attempt.json").write_text('{"start": "2023-11-14T22:13:20+00:00"}')
        (attempt / "exit.json").write_text(json.dumps({"state": "done", "seconds": seconds}))
    report.write(runs, folder)
    (folder / "report.html").write_text(f"<html>the page names {LOG}</html>")
    assert len(project_sweep(runs, folder, "offline")) == 11
    return runs, folder


def test_every_setting_can_be_filtered_by(written):
    run = offline(written[1])[run_id("rank=16", 2)]
    assert run.config["training"]["learning_rate"] == 1e-4
    assert (run.config["lora"]["rank"], run.config["loss"]["beta"]) == (16, 5000.0)
    assert run.config["model"]["path"] == "sd15", "no folder of this machine"
    assert run.config["primary"] == {"scorer": "judge", "split": "evaluation", "stated": True}
    assert not any("." in key for key in run.config)
    base = offline(written[1])[run_id("base model", None)]
    assert "lora" not in base.config


def test_the_answer_is_that_of_the_table(written):
    runs = offline(written[1])
    row = next(
        row
        for row in read_rows(written[1] / "rows.json")
        if (row.cell, row.split, row.scorer) == ("rank=16", "evaluation", "judge")
    )
    assert row.versus_baseline is not None
    assert row.versus_baseline.estimate is not None
    assert row.versus_baseline.mark is not None
    for seed in (0, 1, 2):
        summary = runs[run_id("rank=16", seed)].summary
        assert {name: summary[f"cell/evaluation/judge/{name}"] for name in ("difference", "low", "high", "p")} == {
            "difference": row.versus_baseline.difference,
            "low": row.versus_baseline.estimate.interval.low,
            "high": row.versus_baseline.estimate.interval.high,
            "p": row.versus_baseline.estimate.p,
        }
        assert summary["cell/evaluation/judge/p_adjusted"] == row.versus_baseline.mark.p_adjusted
        assert summary["cell/evaluation/judge/marked"] is True
        own = summary["scores/evaluation/judge/difference_to_baseline"]
        assert own == row.versus_baseline.by_seed[seed]
        baseline = runs[run_id("rank=8", seed)].summary
        means = [each["scores/evaluation/judge/mean"] for each in (summary, baseline)]
        assert own == pytest.approx(means[0] - means[1])
        assert "cell/evaluation/judge/difference" not in baseline
        assert {
            f"cell/{split}/{scorer}/mean" for split in ("evaluation", "seen") for scorer in ("judge", "aesthetic")
        } <= {*summary}


def test_a_diverged_seed_is_shown_in_all_seeds_of_its_cell(written):
    runs = offline(written[1])
    diverged = runs[run_id("rank=32", 1)]
    assert "diverged" in diverged.run.tags
    assert diverged.summary["diverged"] is True
    assert diverged.config["reason"] == "training diverged: loss is nan at step 12 (log.txt)"
    summary = runs[run_id("rank=32", 0)].summary
    assert (summary["cell/diverged_seeds"], summary["diverged"]) == (1, False)
    assert "cell/evaluation/judge/mean" not in summary


def test_the_run_takes_as_long_as_its_cell_computed(written):
    run = offline(written[1])[run_id("rank=16", 2)]
    assert run.run.start_time.ToSeconds() == START
    assert run.runtime == run.summary["_wandb/runtime"] == run.summary["_runtime"] == round(TRAINED + EVALUATED)
    assert run.summary["time/own_seconds"] == TRAINED + EVALUATED
    assert run.summary["time/train_seconds"] == TRAINED
    assert {row["_runtime"] for row in run.history} == {round(TRAINED + EVALUATED)}


def test_the_same_images_are_in_every_cell(written):
    runs = offline(written[1])
    captions = {tuple(runs[run_id(cell, 0)].summary["images/captions"]) for cell in ("rank=8", "rank=16")}
    captions.add(tuple(runs[run_id("base model", None)].summary["images/captions"]))
    assert len(captions) == 1
    assert len(captions.pop()) == 8
    folder = next(written[1].glob(f"wandb/offline-run-*-{run_id('rank=8', 0)}"))
    names = runs[run_id("rank=8", 0)].summary["images/filenames"]
    assert all((folder / "files" / name).is_file() for name in names)


def test_the_report_is_an_artefact_beside_its_table_and_pictures(written):
    run = offline(written[1])["metric_formula-emoji-report"]
    assert (run.run.job_type, run.run.run_group) == ("report", "metric_formula@emoji")
    assert sorted(run.artefacts["metric_formula-emoji-report"]) == ["report.html", "table.csv", "table.md"]
    assert "rank=16" in run.summary["verdict"]
    assert {"gallery/_type", "effects/_type"} <= run.summary.keys()
    folder = next(written[1].glob("wandb/offline-run-*-report"))
    table = json.loads((folder / "files" / run.summary["table/path"]).read_text())
    assert table["columns"] == list(TABLE_COLUMNS)
    assert len(table["data"]) == len(read_rows(written[1] / "rows.json"))


def test_no_folder_of_this_machine_is_in_the_files_of_the_report(written):
    (folder,) = (path / "artefact" for path in written[1].glob("wandb/offline-run-*-report"))
    sent = {path.name: path.read_text() for path in folder.iterdir()}
    assert sent["report.html"] == "<html>the page names log.txt</html>"
    assert not any("/srv/someone" in text for text in sent.values())
    assert LOG in (written[1] / "report.html").read_text(), "the sweep's own page is as it was"


def test_a_file_with_a_key_stays_here(written, tmp_path, caplog):
    folder = tmp_path / "sweep"
    shutil.copytree(written[1], folder, ignore=shutil.ignore_patterns("wandb"))
    (folder / "report.html").write_text(f"wandb_api_key={KEY.replace('9', 'f')}")
    shown = next(run for run in tracked_runs(written[0], folder, live=False) if run.job_type == "report")
    assert [path.name for path in shown.files] == ["table.csv", "table.md"]
    assert "report.html is not sent to W&B: it seems to hold a W&B key" in caplog.text


def test_a_push_sends_each_content_once(written, tmp_path, monkeypatch):
    """With ``wandb sync`` itself, to a server that takes everything."""
    runs = tmp_path / "runs"
    shutil.copytree(written[0], runs)
    folder = runs / "sweeps" / written[1].name
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with server() as first:
        monkeypatch.setenv("WANDB_BASE_URL", first.url)
        place = place_of("project", None)
        waiting = to_upload(runs, folder, place)
        assert len(waiting) == 11
        assert push_line(runs, folder, "project", None, "ablate wandb push x") == (
            "W&B: 11 runs are written and not uploaded; 'ablate wandb push x' uploads them"
        )
        assert list(upload(folder, waiting, "project", None, place)) == waiting
        assert to_upload(runs, folder, place) == []
        assert push_line(runs, folder, "project", None, "ablate wandb push x") == ""
        assert sorted(first.names()) == sorted(waiting)
        cell = run_id("rank=16", 2)
        assert [row["global_step"] for row in first.history[cell] if "train/loss" in row] == [1, 2, 3]
        assert "metric_formula-emoji-report" in first.artefacts
        assert any(name.startswith("media/images/") for name in first.files)

        content = json.loads((folder / "cells.json").read_text())
        changed = next(entry for entry in content["cells"] if entry["cell_id"] in cell)
        changed["reason"] = "another one"
        (folder / "cells.json").write_text(json.dumps(content))
        assert project_sweep(runs, folder, "offline") == [cell]
        before = len(first.runs)
        assert to_upload(runs, folder, place) == [cell]
        assert list(upload(folder, [cell], "project", None, place)) == [cell]
        assert list(here.iterdir()) == [], "nothing is left where the command was called"
        assert {sent["name"] for sent in first.runs[before:]} == {cell}
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"1 run of .* not uploaded to .*No API key"):
        list(upload(folder, [cell], "project", None, place))


def test_a_view_has_the_baseline_pinned_and_names_only_keys_that_runs_have(written):
    from wandb_workspaces.workspaces.interface import _decode_run_gid
    from wandb_workspaces.workspaces.internal import WorkspaceViewspec

    content = specification(sweep_workspace(written[1], "project", "team"))
    WorkspaceViewspec.model_validate(content["spec"])
    section = content["spec"]["section"]
    runset = section["runSets"][0]
    assert _decode_run_gid(runset["baselineRunId"]) == run_id("rank=8", 0)
    assert runset["pinnedRunIds"] == [runset["baselineRunId"]]
    assert [(each["key"]["name"], each["value"]) for each in runset["filters"]["filters"]] == [
        ("group", "metric_formula@emoji")
    ]
    runs = offline(written[1])
    keys = {key for run in runs.values() for row in (run.summary, *run.history) for key in row}
    sections = {each["name"]: each["panels"] for each in section["panelBankConfig"]["sections"]}
    judges = ["judge, evaluation", "aesthetic, evaluation", "judge, seen", "aesthetic, seen"]
    assert list(sections) == ["Answer", *judges, "Images", "Training", "Time"]
    bars = [panel["config"]["metrics"] for name in (*judges, "Time") for panel in sections[name]]
    assert {metric for metrics in bars for metric in metrics} <= keys
    assert bars[0] == [f"cell/evaluation/judge/{name}" for name in ("low", "difference", "high")]
    media = {key for panel in sections["Images"] for key in panel["config"]["mediaKeys"]}
    assert {f"{key}/_type" for key in media} <= keys
    columns = [name.partition(":")[2] for name in runset["runFeed"]["columnOrder"] if name.startswith("summary:")]
    assert set(columns) <= keys


def test_the_commands_are_those_of_the_pages():
    assert {command.callback.__name__ for command in commands.registered_commands} == {"push", "workspace"}
