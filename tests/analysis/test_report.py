"""The written files: content, marks, determinism, and when they are up to date."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from analysis.data.load import load
from analysis.data.rows import read_rows
from analysis.data.training import Trained
from analysis.document.build import build_document
from analysis.document.model import Table
from analysis.document.sentences import conflicts
from analysis.lock import up_to_date
from analysis.render.table_csv import to_csv
from analysis.render.terminal import render_terminal, to_terminal
from analysis.report import write
from analysis.statistics.build_rows import build_rows
from qsd.errors import UserError
from qsd.files import temporary_path
from tests.analysis.document.test_verdict import row as a_row
from tests.analysis.synthetic import (
    Cell,
    World,
    seal,
    stage_keys,
    usual_world,
    write_evaluate,
    write_select,
    write_sweep,
)

FILES = [
    *("rows.json", "table.csv", "table.md", "effects.png", "effects.svg", "gallery.png"),
    *("wins.png", "wins.svg", "judges.png", "judges.svg", "overlap.png", "overlap.csv"),
    *("curves.json", "tables.lock.json"),
]


@pytest.fixture
def world():
    return usual_world(prompts={"evaluation": 12, "seen": 4}, pixels=16)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(Store, folder of the sweep, what was written): the tables of the usual world."""
    root = tmp_path_factory.mktemp("whole")
    folder = write_sweep(root, usual_world(prompts={"evaluation": 12, "seen": 4}, pixels=16))
    return root, folder, write(root, folder)


@pytest.fixture(scope="module")
def partial(tmp_path_factory):
    """(Store, folder of the sweep): the tables of a world where a seed of the second cell is not evaluated."""
    root = tmp_path_factory.mktemp("partial")
    world = usual_world(prompts={"evaluation": 12, "seen": 4}, pixels=16)
    world.cells[1].absent = (2,)
    folder = write_sweep(root, world)
    write(root, folder)
    return root, folder


def copy_of(made, tmp_path):
    """A store and the folder of its sweep, to be changed."""
    root, folder = made[:2]
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    return tmp_path / folder.relative_to(root)


@pytest.mark.slow
def test_report_writes_all_and_the_same_bytes_again(tmp_path, whole):
    folder = copy_of(whole, tmp_path)
    written = [folder / path.name for path in whole[2]]
    assert [path.name for path in written] == FILES
    first = {path.name: path.read_bytes() for path in written}
    for path in written:
        path.unlink()
        left_by_a_kill = temporary_path(path)
        left_by_a_kill.touch()
        os.utime(left_by_a_kill, (0, 0))
    in_use_by_another = temporary_path(folder / "table.csv")
    in_use_by_another.touch()
    assert {path.name: path.read_bytes() for path in write(tmp_path, folder)} == first
    in_use_by_another.unlink()
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "cells.json"])


@pytest.mark.slow
def test_another_process_writes_the_same_figures_and_imports_neither_the_grid_nor_torch(tmp_path, world, whole):
    folder = write_sweep(tmp_path, world)
    script = (
        "import sys, pathlib; from analysis.report import write; write(*map(pathlib.Path, sys.argv[1:]));"
        "print([m for m in ('torch', 'ablations', 'wandb') if m in sys.modules])"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(folder)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "[]"
    for name in ("effects.png", "effects.svg", "overlap.png"):
        assert (folder / name).read_bytes() == (whole[1] / name).read_bytes(), name


@pytest.mark.slow
def test_rows_are_read_back_and_csv_names_the_origin(partial, world):
    _, folder = partial
    rows = read_rows(folder / "rows.json")
    assert to_csv(rows) == (folder / "table.csv").read_text()
    assert len(rows) == 5 * 2 * 3
    lines = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    product = next(line for line in lines if line["cell"] == "metric=product" and line["scorer"] == "clip_emoji")
    assert product["conflicts"] == "selected the training pairs"
    assert product["data_digest"] == stage_keys(world.cells[0], 0)["data"]
    assert product["git_commit"].startswith("0123456789")
    assert len(product["cell_ids"].split()) == 3
    assert (product["prompts"], product["images_per_prompt"], product["seeds"]) == ("12", "2", "0 1 2")
    assert product["baseline_difference"] == ""
    random = next(line for line in lines if line["cell"] == "strategy=random" and line["scorer"] == "clip_emoji")
    assert random["conflicts"] == ""
    short = next(line for line in lines if line["cell"] == "metric=difference")
    assert (short["seeds"], short["missing_seeds"], short["complete"]) == ("0 1", "2", "false")
    assert [part.split(":")[0] for part in short["baseline_by_seed"].split()] == ["0", "1"]


@pytest.mark.slow
def test_differences_are_those_of_the_scores(tmp_path, world):
    """Mean of the cell minus mean of the reference, straight from the long table."""
    results = load(tmp_path, write_sweep(tmp_path, world))
    means = results.scores.groupby(["cell", "split", "scorer"], observed=True)["score"].mean()
    for row in build_rows(results):
        own = means[row.cell, row.split, row.scorer]
        assert row.mean == pytest.approx(own)
        if row.versus_base is not None:
            assert row.versus_base.difference == pytest.approx(own - means["base model", row.split, row.scorer])
        if row.versus_baseline is not None:
            expected = own - means["metric=product", row.split, row.scorer]
            assert row.versus_baseline.difference == pytest.approx(expected)


@pytest.mark.slow
def test_markdown_tells_marks_missing_and_simulation(tmp_path, partial):
    folder = copy_of(partial, tmp_path)
    text = (folder / "table.md").read_text()
    assert text.index("held-out prompts") < text.index("## Split seen")
    assert "`metric=product` (baseline)†" in text
    assert "`metric=difference`†‡" in text
    assert "`strategy=random` |" in text
    assert "not evaluated yet: metric=difference seed 2" in text
    assert "0, 1; missing 2" in text
    assert "simulated annotators" in text

    cells = json.loads((folder / "cells.json").read_text())
    (folder / "cells.json").write_text(json.dumps(cells | {"labels": "human"}))
    write(tmp_path, folder)
    assert "simulated annotators" not in (folder / "table.md").read_text()


@pytest.mark.slow
def test_terminal_table_fits_110_columns_and_needs_no_heavy_imports(tmp_path, whole):
    with pytest.raises(UserError, match=r"rows\.json: no such file"):
        render_terminal(tmp_path)
    _, folder, _ = whole
    text = render_terminal(folder)
    assert max(len(line) for line in text.splitlines()) <= 110
    assert "metric=winner_only" in text
    assert "judge (logit)" in text
    script = (
        "import sys, pathlib; from analysis.render.terminal import render_terminal;"
        "from analysis.lock import up_to_date;"
        "render_terminal(pathlib.Path(sys.argv[1])); up_to_date(pathlib.Path('.'), pathlib.Path(sys.argv[1]));"
        "print([m for m in ('numpy', 'scipy', 'pandas', 'pyarrow', 'matplotlib', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder)], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_terminal_breaks_no_name(tmp_path, seeds):
    """The longest headings are those of one seed."""
    cells = [Cell("metric=product", seeds=seeds), Cell("metric=difference", 2.0, seeds=seeds)]
    cells.append(Cell("base model", role="base", seeds=(None,), reward_model=None))
    world = World(cells, "metric=product", prompts={"evaluation": 4}, pictures=False)
    results = load(tmp_path, write_sweep(tmp_path, world))
    document = build_document(results.sweep, build_rows(results))
    lines = to_terminal(document).splitlines()
    for cell in cells:
        assert sum(line.startswith(f"  {cell.name}") for line in lines) == len(world.scorers)
    assert max(map(len, lines)) <= 110
    assert 110 < max(map(len, to_terminal(document, 150).splitlines())) <= 150


@pytest.mark.parametrize("width", [80, 90, 110, 200])
def test_no_width_breaks_a_piece_of_a_name_or_a_number(tmp_path, width):
    """Four decimals, a long name and seeds that disagree: the other columns get more lines before names do."""
    names = ["reward=image_reward_emoji", "reward=aesthetic_emoji"]
    cells = [Cell("reward=clip_emoji"), *(Cell(name, effect) for name, effect in zip(names, (0.1, 0.2), strict=True))]
    cells.append(Cell("base model", role="base", seeds=(None,), reward_model=None))
    scorers = {"judge": ("cosine", 0.01)}
    world = World(cells, "reward=clip_emoji", scorers=scorers, prompts={"evaluation": 4}, pictures=False)
    results = load(tmp_path, write_sweep(tmp_path, world))
    rows = [
        replace(row, versus_baseline=replace(comparison, estimate=replace(comparison.estimate, seeds_disagree=True)))
        if (comparison := row.versus_baseline)
        else row
        for row in build_rows(results)
    ]
    document = build_document(results.sweep, rows)
    text = to_terminal(document, width)
    assert max(map(len, text.splitlines())) <= width
    table = text[text.index("vs base") : text.index("trained on")].splitlines()
    pieces = {piece for line in table for piece in line.split()}
    assert pieces & {"reward=image_reward_emoji", "reward=image_reward_", "reward=image_", "image_"}
    assert pieces & {"disagree"}
    numbers = {piece for name in ("versus_baseline", "versus_base") for piece in _numbers(document, name)}
    assert numbers <= pieces


def _numbers(document, column):
    """What stands in a column of differences of the first table, word by word."""
    table = next(each for each in document.splits[0].sections[0].blocks if isinstance(each, Table))
    place = [each.key for each in table.columns].index(column)
    return [word for row in table.rows for word in f"{row[place].brief_text}{row[place].marks}".split()]


def test_scorers_of_one_backbone_are_one_line():
    trained = [
        a_row(f"reward={name}", conflicts=(f"shares a backbone with {name}, which selected the training pairs",))
        for name in ("a", "b", "c")
    ]
    selected = a_row("reward=judge", conflicts=("selected the training pairs",))
    other = a_row("strategy=random")
    assert conflicts([*trained, selected, other]) == [
        "judge shares a backbone with a, b and c, which selected the training pairs of 3 cells",
        "judge selected the training pairs of 1 cell",
    ]
    assert conflicts(trained[:2]) == ["judge shares a backbone with a and b, which selected the training pairs"]
    assert conflicts([selected]) == ["judge selected the training pairs"]


@pytest.mark.slow
def test_up_to_date_follows_inputs_and_outputs(tmp_path, world, partial):
    world.cells[1].absent = (2,)
    folder = copy_of(partial, tmp_path)
    lock = (folder / "tables.lock.json").read_bytes()
    (folder / "tables.lock.json").unlink()
    assert not up_to_date(tmp_path, folder)
    (folder / "tables.lock.json").write_bytes(lock)
    assert up_to_date(tmp_path, folder)

    (folder / "table.md").write_text("edited")
    assert not up_to_date(tmp_path, folder)
    write(tmp_path, folder)
    assert up_to_date(tmp_path, folder)

    (folder / "gallery.png").unlink()
    assert not up_to_date(tmp_path, folder)
    write(tmp_path, folder)

    write_evaluate(tmp_path, stage_keys(world.cells[1], 2)["evaluate"], world, world.cells[1], 2)
    assert not up_to_date(tmp_path, folder)
    write(tmp_path, folder)
    assert up_to_date(tmp_path, folder)

    cells = json.loads((folder / "cells.json").read_text())
    (folder / "cells.json").write_text(json.dumps(cells | {"git_commit": "f" * 40}))
    assert not up_to_date(tmp_path, folder)

    (folder / "tables.lock.json").write_text("[]")
    assert not up_to_date(tmp_path, folder)


@pytest.mark.slow
def test_a_sweep_that_has_only_begun(tmp_path):
    """No base model yet, one cell of two: dashes, no crash, nothing made up."""
    cells = [
        Cell("a", seeds=(0,)),
        Cell("b", seeds=(0,), absent=(0,)),
        Cell("base model", role="base", seeds=(None,), absent=(None,)),
    ]
    folder = write_sweep(tmp_path, World(cells, "a", prompts={"held_out": 5}, pixels=16))
    write(tmp_path, folder)
    rows = {(row.cell, row.scorer): row for row in read_rows(folder / "rows.json")}
    assert rows["b", "judge"].mean is None
    assert rows["b", "judge"].missing_seeds == ("0",)
    assert rows["base model", "judge"].missing_seeds == ("base",)
    assert rows["a", "judge"].versus_base is None
    assert "not evaluated yet: b seed 0, base model" in render_terminal(folder).replace("\n", " ")


@pytest.mark.slow
def test_the_tables_tell_what_was_trained_on(tmp_path, world):
    world.cells[1].kept = 40
    folder = write_sweep(tmp_path, world)
    write(tmp_path, folder)
    rows = {row.cell: row.trained for row in read_rows(folder / "rows.json")}
    assert (rows["metric=product"].pairs, rows["metric=product"].of) == ((20,), (100,))
    assert (rows["metric=product"].steps, rows["metric=product"].epochs) == ((30,), (6.0,))
    assert (rows["metric=difference"].pairs, rows["metric=difference"].epochs) == ((40,), (3.0,))
    assert rows["metric=product"].contradicted == (0.125,)
    assert rows["strategy=random"].contradicted == ()
    assert rows["metric=product"].styles == (("fluent", 0.35), ("line art", 0.3), ("noto", 0.35))
    assert rows["base model"] == Trained()
    text = (folder / "table.md").read_text()
    assert "Every cell was trained for the same number of optimiser steps." in text
    assert "| `metric=product` (baseline) | 20 | 100 | 10 | 40 | 12.5 % | 30 | 6 | 35 % | 30 % | 35 % |" in text
    assert "| `strategy=random` | 20 | 100 | 10 | 40 | — | 30 | 6 |" in text
    shown = render_terminal(folder)
    assert "metric=difference" in shown.split("trained on")[1]
    assert "same number of optimiser steps" in shown


@pytest.mark.slow
def test_a_range_is_shown_where_seeds_differ(tmp_path, world, whole):
    folder = copy_of(whole, tmp_path)
    keys = stage_keys(world.cells[3], 1)
    for stage, name, value in (("select", "kept", 17), ("train", "epochs", 7.5), ("train", "budget", "epochs")):
        path = tmp_path / "artefacts" / stage / keys[stage]
        summary = json.loads((path / "summary.json").read_text())
        (path / "summary.json").write_text(json.dumps(summary | {name: value}))
        seal(path, stage, keys[stage])
    write(tmp_path, folder)
    text = (folder / "table.md").read_text()
    assert "| `strategy=random` | 17–20 | 100 | 10 | 40 | — | 30 | 6–7.5 |" in text
    assert "Cells were trained under different budgets." in text


@pytest.mark.slow
def test_selections_without_the_newer_numbers_show_dashes(tmp_path, world, whole):
    """Artefacts of an older version of the stage say less; nothing is made up."""
    folder = copy_of(whole, tmp_path)
    keys = stage_keys(world.cells[0], 0)
    path = tmp_path / "artefacts" / "select" / keys["select"]
    (path / "summary.json").write_text(json.dumps({"kept": 20, "of": 100}))
    seal(path, "select", keys["select"])
    write(tmp_path, folder)
    assert (
        "| `metric=product` (baseline) | 20 | 100 | — | — | — | 30 | 6 | — | — | — |"
        in (folder / "table.md").read_text()
    )


@pytest.mark.slow
def test_new_selections_make_the_tables_old(tmp_path, world, whole):
    folder = copy_of(whole, tmp_path)
    assert up_to_date(tmp_path, folder)
    world.cells[0].kept = 30
    write_select(tmp_path, stage_keys(world.cells[0], 0)["select"], world, world.cells[0], 0)
    assert not up_to_date(tmp_path, folder)


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["only the base model", "only the baseline", "only what diverged"])
def test_a_sweep_with_nothing_to_compare_is_reported_all_the_same(tmp_path, kept):
    world = usual_world(prompts={"evaluation": 12}, pictures=False)
    for cell in world.cells[:-1]:
        if kept == "only what diverged":
            cell.diverged = cell.seeds
        elif kept == "only the base model" or cell.name != world.baseline:
            cell.absent = cell.seeds
    folder = write_sweep(tmp_path, world)
    write(tmp_path, folder)
    assert (folder / "table.md").read_text().count("metric=product") > 0
    assert world.baseline in render_terminal(folder)
    world = World([world.cells[-1]], world.cells[-1].name, prompts={"evaluation": 12}, pictures=False)
    alone = write_sweep(tmp_path, world, "alone")
    write(tmp_path, alone)
    assert not (alone / "effects.png").exists()
    assert "base model" in render_terminal(alone)
