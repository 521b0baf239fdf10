"""What the tables mark and what they say is missing: seeds, divergence, failures, scorers, base models."""

from __future__ import annotations

import json

import pytest

from analysis.data.load import load
from analysis.data.rows import read_rows
from analysis.document.sentences import missing_results, partial
from analysis.render.terminal import render_terminal
from analysis.report import write
from analysis.statistics.build_rows import build_rows
from tests.analysis.synthetic import Cell, World, usual_world, write_sweep

pytestmark = pytest.mark.slow


@pytest.fixture
def world():
    return usual_world(prompts={"evaluation": 12, "seen": 4}, pixels=16)


def lines_of(text, cell):
    """The lines of a terminal's table that begin with a cell's name, one per scorer."""
    return [line for line in text.split("trained on")[0].splitlines() if line.split()[:1] == [cell]]


def test_marks_are_of_the_primary_scorer_and_the_others_are_exploratory(tmp_path):
    """A large true effect is marked, by * under the primary scorer and by ° elsewhere; no effect is not."""
    cells = [
        Cell("a", 0.0, seeds=(0, 1, 2, 3, 4)),
        Cell("b", 3.0, seeds=(0, 1, 2, 3, 4), reward_model=None),
        Cell("c", 0.0, seeds=(0, 1, 2, 3, 4), reward_model=None),
        Cell("base model", role="base", seeds=(None,), reward_model=None),
    ]
    folder = write_sweep(tmp_path, World(cells, "a", prompts={"evaluation": 40}, pixels=16, seed_spread=0.0))
    write(tmp_path, folder)
    rows = {(row.cell, row.scorer): row for row in read_rows(folder / "rows.json")}
    assert next(iter(rows)) == ("a", "judge")  # the primary scorer comes first
    for (cell, scorer), row in rows.items():
        if cell in "bc":
            assert row.primary == (scorer == "judge")
            assert row.versus_baseline.marked == (cell == "b")
            assert row.versus_baseline.mark.adjustment == ("Holm" if row.primary else "Benjamini-Hochberg")
    text = render_terminal(folder)
    assert "judge (logit), primary" in text
    assert [line.count("*") for line in lines_of(text, "b")] == [2, 0, 0]
    assert [line.count("°") for line in lines_of(text, "b")] == [0, 2, 2]
    assert not any(sign in line for line in lines_of(text, "c") for sign in "*°")
    markdown = (folder / "table.md").read_text()
    assert "### judge (primary)" in markdown
    assert "### aesthetic (exploratory)" in markdown
    assert "the same recipe at another seed: " in text
    assert "a true difference of " in text


def test_one_seed_has_no_mark_and_says_why(tmp_path):
    cells = [
        Cell("a", 0.0, seeds=(0,)),
        Cell("b", 3.0, seeds=(0,)),
        Cell("base model", role="base", seeds=(None,), reward_model=None),
    ]
    folder = write_sweep(tmp_path, World(cells, "a", prompts={"evaluation": 40}, pixels=16))
    write(tmp_path, folder)
    text = render_terminal(folder)
    assert "No marks: with one training seed, chance alone" in text.replace("\n", " ")
    assert "for these trained models only" in text.replace("\n", " ")
    assert "*" not in "".join(lines_of(text, "b"))
    assert "**" not in (folder / "table.md").read_text().split("## How to read")[0]
    row = next(row for row in read_rows(folder / "rows.json") if row.cell == "b")
    assert row.versus_baseline.these_models.excludes_zero
    assert row.versus_baseline.estimate is None


def test_a_diverged_seed_is_a_result_and_never_averaged_away(tmp_path, world):
    world.cells[1].diverged = (1,)
    folder = write_sweep(tmp_path, world)
    write(tmp_path, folder)
    row = next(row for row in read_rows(folder / "rows.json") if row.cell == "metric=difference")
    assert row.mean is None
    assert row.diverged_seeds == (1,)
    assert row.versus_baseline is None
    assert row.versus_base is None
    text = render_terminal(folder)
    assert all("diverged 1 of 3" in line for line in lines_of(text, "metric=difference‡"))
    assert len(lines_of(text, "metric=difference†‡")) == 1
    assert "‡  diverged: metric=difference seed 1" in text
    assert "diverged 1 of 3" in (folder / "table.md").read_text()
    others = [row for row in read_rows(folder / "rows.json") if row.cell == "metric=winner_only"]
    assert all(row.versus_baseline.mark is not None for row in others)


def test_a_diverged_baseline_leaves_nothing_to_mark_against_it(tmp_path, world):
    world.cells[0].diverged = (0,)
    folder = write_sweep(tmp_path, world)
    write(tmp_path, folder)
    rows = [row for row in read_rows(folder / "rows.json") if row.cell == "metric=winner_only"]
    assert all(row.versus_baseline is None for row in rows)
    assert all(row.versus_base.mark is not None for row in rows)


def test_a_partial_table_says_what_is_missing_and_marks_only_whole_cells(tmp_path, world):
    world.cells[1].failed = (2,)
    world.cells[2].absent = (0, 1, 2)
    folder = write_sweep(tmp_path, world)
    write(tmp_path, folder)
    text = render_terminal(folder)
    assert "Partial: 3 of 5 cells have all their results" in text
    assert "‡  not evaluated yet: metric=winner_only seeds 0, 1, 2" in text
    assert "‡  failed: metric=difference seed 2: train failed: out of memory" in text
    rows = {row.cell: row for row in read_rows(folder / "rows.json") if row.primary}
    assert rows["metric=difference"].versus_baseline.estimate is not None
    assert rows["metric=difference"].versus_baseline.mark is None
    assert rows["strategy=random"].versus_baseline.mark is not None
    assert "Partial: 3 of 5 cells" in (folder / "table.md").read_text()


def test_every_cell_is_compared_with_its_own_base_model(tmp_path):
    """An axis that changes the images changes the base model's too: 2.0 higher there, and so the cell of that kind."""
    seeds = (0, 1, 2)
    cells = [
        Cell("g=1", 0.0, seeds=seeds, base="base,g=1"),
        Cell("g=3", 2.0, seeds=seeds, base="base,g=3"),
        Cell("base,g=1", 0.0, role="base", seeds=(None,), reward_model=None),
        Cell("base,g=3", 2.0, role="base", seeds=(None,), reward_model=None),
    ]
    folder = write_sweep(tmp_path, World(cells, "g=1", prompts={"evaluation": 60}, pictures=False, seed_spread=0.0))
    rows = {row.cell: row for row in build_rows(load(tmp_path, folder)) if row.primary}
    for cell in ("g=1", "g=3"):
        assert abs(rows[cell].versus_base.difference) < 0.3
    assert rows["g=3"].versus_baseline.difference == pytest.approx(2.0, abs=0.3)


def test_a_cell_is_no_row_of_a_scorer_that_does_not_judge_it(tmp_path):
    folder = write_sweep(tmp_path, usual_world(prompts={"evaluation": 12}, pictures=False))
    content = json.loads((folder / "cells.json").read_text())
    for cell in content["cells"]:
        if cell["name"] == "strategy=random":
            cell["scorers"] = ["judge"]
    (folder / "cells.json").write_text(json.dumps(content))
    rows = build_rows(load(tmp_path, folder))
    assert {row.scorer for row in rows if row.cell == "strategy=random"} == {"judge"}


def test_a_sweep_with_nothing_but_divergence_and_the_base_model_still_has_a_table(tmp_path):
    cells = [
        Cell("a", seeds=(0, 1), diverged=(0, 1)),
        Cell("b$x_{$|*", seeds=(0, 1), diverged=(0, 1)),
        Cell("base model", role="base", seeds=(None,), reward_model=None),
    ]
    folder = write_sweep(tmp_path, World(cells, "a", prompts={"evaluation": 5}, pixels=16))
    write(tmp_path, folder)
    text = render_terminal(folder)
    assert "diverged 2 of 2" in text
    assert "No marks: no comparison has two finished training seeds" in text.replace("\n", " ")


def test_a_failure_under_one_scorer_makes_the_table_partial(tmp_path):
    """Under the first scorer a cell has too few numbers, under the last all of them."""
    from tests.analysis.damage import scores_of, spoil

    world = usual_world(prompts={"evaluation": 60}, pictures=False)
    folder = write_sweep(tmp_path, world)
    spoil(scores_of(tmp_path, world.cells[1], 0), list(range(12)), listed=False)
    rows = build_rows(load(tmp_path, folder))
    assert partial(rows) == "partial: 4 of 5 cells have all their results"
    assert any("12 of 120 scores of clip_emoji are not finite" in line for line in missing_results(rows))


def test_cells_with_one_evaluation_are_one_comparison(tmp_path):
    """A copy of a cell in the list changes neither p values nor marks."""
    seeds = (0, 1, 2)
    cells = [Cell("a", seeds=seeds), Cell("b", 0.3, seeds=seeds), Cell("c", 0.1, seeds=seeds)]
    folder = write_sweep(tmp_path, World(cells, "a", prompts={"evaluation": 30}, pictures=False))
    before = {row.cell: row.versus_baseline for row in build_rows(load(tmp_path, folder)) if row.primary}
    content = json.loads((folder / "cells.json").read_text())
    copies = [{**cell, "name": "copy of b", "cell_id": "x"} for cell in content["cells"] if cell["name"] == "b"]
    (folder / "cells.json").write_text(json.dumps({**content, "cells": [*content["cells"], *copies]}))
    after = {row.cell: row.versus_baseline for row in build_rows(load(tmp_path, folder)) if row.primary}
    assert after["copy of b"] == after["b"]
    assert {name: after[name] for name in before} == before
