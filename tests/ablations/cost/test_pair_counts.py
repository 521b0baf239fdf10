"""How many pairs a plan counts with: those of the list, of the data stage that is done, or an assumed number."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ablations.cost import pair_counts as counting
from ablations.cost.estimate import AND_MODEL, MODEL, RECORDS, Estimator, estimate
from ablations.cost.pair_counts import counted_pairs
from ablations.cost.timings import read_timings
from ablations.cost.workload import Counts, work_of
from ablations.files import write_json
from ablations.grid.keys import StageNode
from ablations.grid.spec import read_sweep
from ablations.planning.plan import Plan, make_plan
from ablations.store.artefacts import Store
from qsd.stages import spec
from tests.ablations.command import ablate
from tests.ablations.conftest import SMALL, Planner
from tests.ablations.cost.records import CLUSTER, leave_record, local
from tests.ablations.flat_values import FLAT

ROWS = 20_000


def write_csv(path: Path, rows: int = ROWS) -> Path:
    """Captions with commas, quotes and line ends; twice as many lines as rows."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["caption", "winner", "loser"])
        writer.writerows([f'a "dog",\nnumber {row}', f"{row}a.jpg", f"{row}b.jpg"] for row in range(rows))
    return path


def write_json_list(path: Path, rows: int = ROWS) -> Path:
    """HPD v2's choices, and one tie, which is no pair."""
    items = [
        {"prompt": "a, [b] {c}", "file_path": [f"{row}a.jpg", f"{row}b.jpg"], "human_preference": [1, 0]}
        for row in range(rows)
    ]
    path.write_text(json.dumps([*items, {**items[0], "human_preference": [0.5, 0.5]}]))
    return path


WRITERS = {"own_pairs": write_csv, "hpd_v2": write_json_list}


@pytest.mark.parametrize("reader", WRITERS)
def test_the_rows_of_a_list_are_counted(tmp_path: Path, reader: str) -> None:
    path = WRITERS[reader](tmp_path / "list")
    values = FLAT | {"data.path": str(path), "data.reader": reader}
    counts = Counts({})
    assert counts.pairs(values) == ROWS
    assert counts.pairs(values | {"data.max_rows": 300}) == 300
    assert counts.selected(values | {"selection.fraction": 5.0}) == ROWS / 20
    assert counts.remarks == {}


def test_a_list_is_counted_once_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_csv(tmp_path / "pairs.csv", 3)
    values = FLAT | {"data.path": str(path), "data.reader": "own_pairs"}
    assert Counts({}).pairs(values) == 3
    monkeypatch.setattr(counting, "opened", None)
    assert Counts({}).pairs(values) == 3


def test_rows_that_a_column_leaves_out_are_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("caption,winner,loser,good\n" + "".join(f"a,{n}.png,b.png,{n < 5}\n" for n in range(8)))
    values = FLAT | {"data.path": str(path), "data.reader": "own_pairs", "data.only": "good"}
    counts = Counts({(str(path), None, None): 8})
    assert counts.pairs(values) == 5
    assert counts.pairs(values | {"data.only": None}) == 8


def planned(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert ablate("plan", "good", "--json", *options) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


@pytest.mark.slow
@pytest.mark.parametrize("reader", WRITERS)
def test_a_plan_counts_with_the_rows_of_a_list(assets: Path, capsys: pytest.CaptureFixture[str], reader: str) -> None:
    """The model decodes 200 images per second: 2 x 20,000 images in 200 s, after 10 s to start."""
    WRITERS[reader](assets / "world" / "pairs")
    experiment = assets / "experiments" / "tiny.yaml"
    experiment.write_text(experiment.read_text().replace("data: {", f"data: {{reader: {reader}, "))
    costs = planned(capsys)["estimate"]
    assert costs["stages"]["data"]["seconds_each"] == pytest.approx(10 + 2 * ROWS / 200)
    assert costs["assumed"] == []


def test_what_no_reader_opens_is_guessed_from_its_size_and_said(
    assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (assets / "world" / "pairs").write_bytes(b"x" * round(2 * 0.6 * 64 * 64 * 1000))
    assert ablate("plan", "good") == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("note: data.path"))
    assert "world/pairs: not a readable parquet file" in line
    assert line.endswith("planned with 1,000 pairs, a guess from its size")


def test_a_plan_before_the_download(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = planned(capsys)["list"]
    (assets / "world" / "pairs").unlink()
    printed = planned(capsys)
    assert printed["estimate"]["stages"]["data"]["seconds_each"] == pytest.approx(10 + 2 * 100_000 / 200)
    (line,) = printed["estimate"]["assumed"]
    assert line.startswith("data.path: there is nothing at world/pairs yet; planned with an assumed 100,000 pairs, and")
    assert line.endswith("no stage that needs them counts as done")
    (assets / "world" / "pair").touch()
    assert "world/pairs yet (did you mean 'world/pair'?); planned" in planned(capsys)["estimate"]["assumed"][0]
    for before, now in zip(keys, printed["list"], strict=True):
        same = {stage for stage in before["stages"] if before["stages"][stage] == now["stages"][stage]}
        assert same == ({"generate", "evaluate"} if before["role"] == "base" else set())
    assert ablate("plan", "good") == 0
    assert "planned with an assumed 100,000 pairs" in capsys.readouterr().out


def test_an_assumed_data_set_is_shared_as_a_real_one(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = planned(capsys)
    (assets / "world" / "pairs").unlink()
    for name, value in (("unique", before["unique"]), ("naive", before["naive"])):
        assert planned(capsys)[name] == value


def test_only_so_many_rows_as_asked_for_are_assumed(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = assets / "experiments" / "tiny.yaml"
    experiment.write_text(experiment.read_text().replace("world/pairs", "world/nothing, max_rows: 500"))
    costs = planned(capsys)["estimate"]
    assert "an assumed 500 pairs" in costs["assumed"][0]
    assert costs["stages"]["data"]["seconds_each"] == pytest.approx(10 + 2 * 500 / 200)


def test_a_plan_without_the_base_model(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = assets / "experiments" / "tiny.yaml"
    experiment.write_text(experiment.read_text().replace("world/model", "world/none/model"))
    (assets / "world" / "none").mkdir()
    before = planned(capsys)["estimate"]["assumed"]
    assert [line for line in before if line.startswith("model.path: there is nothing at world/none/model yet")]


def test_a_run_does_not_start_without_the_data(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (assets / "world" / "pairs").unlink()
    for command in ("run", "status", "explain"):
        assert ablate(command, "good") == 2, command
        assert "data.path: world/pairs: no such file or folder" in capsys.readouterr().err
    assert not (assets / "runs" / "jobs").exists()


def test_what_makes_a_plan_impossible_is_named_with_what_is_absent(
    assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (assets / "world" / "pairs").unlink()
    (assets / "world" / "prompts.csv").unlink()
    assert ablate("plan", "good") == 2
    message = capsys.readouterr().err
    assert message.startswith("error: experiments/tiny.yaml:5:23: evaluation.prompts: world/prompts.csv: no such file")
    assert "data.path: world/pairs: no such file or folder" in message


# ── records ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def leave_data(store: Store, values: Mapping[str, Any], pairs: int, kept: int) -> dict[str, str]:
    """A finished data stage and a selection of it, as far as counts look at them; their keys."""
    write_json(store.artefact("data", "d1") / "summary.json", {"rows": 2 * pairs, "pairs": pairs})
    write_json(store.artefact("select", "s1") / "summary.json", {"kept": kept, "of": pairs})
    leave_record(store, "select", "s1", values, [1.0], inputs={"data": "d1"})
    return {"data": "d1", "select": "s1"}


def test_a_record_has_the_true_number_of_pairs(store: Store, tmp_path: Path) -> None:
    """The list has 20,000 rows, of which 640 were asked for, 600 are pairs and 7 were kept."""
    path = write_csv(tmp_path / "pairs.csv")
    values = FLAT | {"data.path": str(path), "data.reader": "own_pairs", "data.max_rows": 640}
    keys = leave_data(store, values, 600, 7)
    leave_record(store, "score", "k", values, [5.0], inputs={"data": "d1"})
    leave_record(store, "encode", "k", values | {"encode.scope": "selection"}, [5.0], inputs=keys)
    by_epochs = values | {"training.budget": "epochs", "training.epochs": 10.0}
    leave_record(store, "train", "k", by_epochs, [5.0], inputs={"select": "s1"})
    timings = {stage: read_timings(store, stage, Counts({})) for stage in ("score", "select", "encode", "train")}
    assert {stage: timing.work.amount for stage, (timing,) in timings.items()} == {
        "score": 600,
        "select": 600,
        "encode": 7,
        "train": pytest.approx(70 * 6.2),
    }
    write_json(store.artefact("data", "d1") / "summary.json", {})
    (timing,) = read_timings(store, "score", Counts({}))
    assert timing.work.amount == 640, "the data's artefact is gone: as many as could be"


def test_pairs_behind_other_stages_are_found_by_their_inputs(store: Store) -> None:
    leave_data(store, FLAT, 600, 7)
    leave_record(store, "encode", "e1", FLAT, [1.0], inputs={"data": "d1"})
    assert counting.true_pairs(store, {"train": "t", "encode": "e1"}) == 600
    assert counting.true_pairs(store, {"evaluate": "none"}) is None


def test_a_data_stage_that_is_done_counts_for_the_rows_that_it_read(store: Store) -> None:
    for key, pairs in (("all", 950), ("some", 90)):
        write_json(store.artefact("data", key) / "summary.json", {"pairs": pairs})
    nodes = [
        StageNode("data", key, 1, {}, {}, FLAT | {"data.max_rows": most})
        for key, most in (("all", None), ("some", 100), ("not done", 7))
    ]
    counts = Counts(counted_pairs(store, nodes))
    assert [counts.pairs(FLAT | {"data.max_rows": most}) for most in (None, 100, 300, 1000)] == [950, 90, 300, 950]


def test_three_tiny_encodes_do_not_make_a_demo_sized_one_hours(plan_of: Planner, store: Store, tmp_path: Path) -> None:
    """3 s each for 8 pairs: 0.375 s per pair would be 2 h for 20,000."""
    path = write_csv(tmp_path / "pairs.csv")
    values = train_values(plan_of) | {"data.path": str(path), "data.reader": "own_pairs", "encode.scope": "dataset"}
    for number, seconds in enumerate((3.0, 2.9, 3.2)):
        leave_record(store, "encode", f"tiny{number}", values | {"data.max_rows": 8}, [seconds])
    node = StageNode("encode", "x", 1, {}, {}, values)
    assert work_of("encode", values, Counts({})).amount == ROWS
    cost = Estimator(plan_of(SMALL), store, local()).cost(node)
    assert cost.seconds < 1200
    assert cost.origin.startswith(RECORDS)
    assert cost.records == 3


def train_values(plan_of: Planner) -> dict[str, Any]:
    return dict(next(iter(plan_of(SMALL).nodes.values())).values)


def test_a_cluster_with_gpus_takes_no_records_of_a_cpu(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """But select has none there, and data needs none: what they took here holds there too."""
    (assets / "experiments" / "clusters").mkdir()
    (assets / "experiments" / "clusters" / "site.yaml").write_text(CLUSTER)
    store = Store(Path("runs"), spec.key_of)
    values = planned_values()
    for stage in ("data", "score", "select", "encode", "train", "generate", "evaluate"):
        leave_record(store, stage, "cpu", values, [5000.0])
    origins = {stage: set(kind["from"]) for stage, kind in planned(capsys)["estimate"]["stages"].items()}
    assert {origin.removesuffix(AND_MODEL) for each in origins.values() for origin in each} == {RECORDS}
    there = planned(capsys, "--cluster", "site")["estimate"]["stages"]
    for stage in ("score", "encode", "train", "generate", "evaluate"):
        assert set(there[stage]["from"]) == {MODEL}
        assert there[stage]["seconds_each"] < 1000
    for stage in ("data", "select"):
        assert MODEL not in there[stage]["from"]
    leave_record(store, "train", "gpu", values, [77.0], cuda=10**9)
    os.utime(store.attempts("train", "gpu"))
    assert planned(capsys, "--cluster", "site")["estimate"]["stages"]["train"]["from"] == {
        "records of another place": 8
    }


def planned_values() -> dict[str, Any]:
    return dict(make_plan(read_sweep(Path("sweeps/good.yaml")), spec).cells[0].values)


def test_sharing_never_saves_less_than_nothing(plan_of: Planner, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages that no trained cell needs are done once and would be done by no cell on its own."""
    plan = plan_of(SMALL)
    monkeypatch.setattr(Plan, "alone", Counter())
    costs = estimate(plan, store, dict.fromkeys(plan.nodes, "new"), local())
    assert (costs["saved_hours"], costs["saved_share"]) == (0.0, 0.0)
    monkeypatch.setattr(Plan, "alone", Counter(list(plan.nodes)[:3]))
    costs = estimate(plan, store, dict.fromkeys(plan.nodes, "new"), local())
    assert (costs["saved_hours"], costs["saved_share"]) == (0.0, 0.0)
