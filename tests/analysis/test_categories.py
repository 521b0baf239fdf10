"""Differences by category of prompts: their numbers, their marks, and tables that do not change without categories."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import numpy as np
import pytest

import analysis
from analysis.data.load import load
from analysis.data.pairing import Cube, Panel
from analysis.data.rows import FEW_PROMPTS, read_rows, to_json
from analysis.document.build import build_document
from analysis.document.model import unstyled
from analysis.page.write import write_page
from analysis.render.markdown import to_markdown
from analysis.render.table_csv import categories_csv, to_csv
from analysis.render.terminal import to_terminal
from analysis.report import write
from analysis.statistics.build_rows import build_rows
from analysis.statistics.categories import with_categories
from analysis.statistics.marks import estimates
from qsd.errors import UserError
from qsd.evaluation.categories import FILE
from tests.analysis.synthetic import seal, usual_world, write_sweep

NAMES = ("Animals",) * 14 + ("Food | drink",) * 12 + ("Vehicles",) * 4 + ("",) * 10


def world(**changes):
    effects = {"Animals": 2.0}
    return usual_world(pictures=False, **({"categories": NAMES, "category_effects": effects} | changes))


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    """Results and rows of a sweep whose cells differ from the baseline on prompts of animals alone."""
    runs = tmp_path_factory.mktemp("divided")
    results = load(runs, write_sweep(runs, world()))
    return runs, results, build_rows(results)


def primary(rows):
    return {row.cell: row for row in rows if row.primary}


def test_hand_values_of_a_small_panel(divided) -> None:
    """Two categories of ten prompts, two seeds, one image: means, estimates, and Benjamini-Hochberg over all four."""
    *_, rows = divided
    some = [
        row for row in rows if row.primary and row.cell in ("metric=product", "metric=difference", "strategy=random")
    ]
    prompts = tuple(f"p{number:02d}" for number in range(22))
    names = {prompt: "a" if number < 10 else "b" for number, prompt in enumerate(prompts[:20])}
    zero = np.zeros((2, 22, 1))
    first = zero + np.arange(22)[None, :, None] / 10 + np.array([0.0, 0.2])[:, None, None]
    second = zero + np.sin(np.arange(22))[None, :, None] + np.array([0.1, 0.0])[:, None, None]
    cubes = dict(
        zip((row.cell for row in some), (Cube((0, 1), values) for values in (zero, first, second)), strict=True)
    )
    some = [dataclasses.replace(row, categories=()) for row in some]
    panel = Panel("evaluation", "judge", "r", "logit", prompts, cubes)
    whole = with_categories(some, panel, names, {row.cell: (row.cell,) for row in some})
    assert whole[0].categories == (), "the baseline"
    assert [(each.category, each.prompts) for each in whole[1].categories] == [("a", 10), ("b", 10), ("", 2)]
    of_a, of_b, of_none = (each.comparison for each in whole[1].categories)
    assert of_none is None
    assert of_a.difference == pytest.approx(0.45 + 0.1)
    assert of_b.difference == pytest.approx(1.45 + 0.1)
    assert of_a.by_seed == pytest.approx({0: 0.45, 1: 0.65})
    assert of_a.estimate == estimates([first[:, :10, 0], second[:, :10, 0]])[0]
    p_values = [each.comparison.estimate.p for row in whole[1:] for each in row.categories[:2]]
    adjusted = [each.comparison.mark.p_adjusted for row in whole[1:] for each in row.categories[:2]]
    ranked = sorted(p_values)
    by_hand = [min(ranked[j] * 4 / (j + 1) for j in range(ranked.index(p), 4)) for p in p_values]
    assert adjusted == pytest.approx([min(1.0, p) for p in by_hand])


def test_a_difference_is_where_it_was_planted_and_never_starred(divided) -> None:
    _, _results, rows = divided
    for cell, row in primary(rows).items():
        if row.is_baseline or row.role == "base":
            assert row.categories == ()
            continue
        animals, food, few, none = row.categories
        assert (animals.prompts, food.prompts, few.prompts, none.prompts) == (14, 12, 4, 10)
        assert (few.comparison, none.comparison, few.category) == (None, None, "Vehicles"), cell
        assert animals.comparison.marked
        assert not food.comparison.marked
        marks = [each.comparison.mark for each in (animals, food)]
        assert {mark.adjustment for mark in marks} == {"Benjamini-Hochberg"}
    assert all(not row.categories for row in rows if row.split == "seen"), "its prompts have no category"
    assert FEW_PROMPTS == 10


def test_rows_and_tables_without_categories_are_the_same_bytes(divided, tmp_path) -> None:
    """The same scores without categories give the same rows, and files without a trace of them."""
    _, results, rows = divided
    plain = build_rows(dataclasses.replace(results, categories={}))
    assert [dataclasses.replace(row, categories=()) for row in rows] == plain
    assert "categor" not in to_json(plain)
    assert to_csv(rows) == to_csv(plain)
    assert categories_csv(plain) == ""
    document = build_document(results.sweep, plain)
    with_them = build_document(results.sweep, rows)
    assert dataclasses.replace(with_them, categories=None) == document
    for render in (to_markdown, to_terminal):
        assert "categor" not in render(document).lower()
    everything_of_one = dict.fromkeys((row for row in results.scores["prompt_id"].astype(str)), "Animals")
    assert build_rows(dataclasses.replace(results, categories=everything_of_one)) == plain


def test_rows_survive_their_file(divided, tmp_path) -> None:
    *_, rows = divided
    (tmp_path / "rows.json").write_text(to_json(rows))
    assert read_rows(tmp_path / "rows.json") == rows


def test_markdown_terminal_and_csv_show_them(divided) -> None:
    _, results, rows = divided
    document = build_document(results.sweep, rows)
    row = primary(rows)["metric=winner_only"]
    difference = row.categories[0].comparison.difference
    markdown = to_markdown(document)
    section = markdown.partition("## judge by category of prompts (exploratory)")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `metric=winner_only` |")]
    assert [line.split(" | ")[1:3] for line in lines] == [["Animals", "14"], [r"Food \| drink", "12"]]
    assert "°" in lines[0]
    assert "°" not in lines[1]
    assert "*" not in "".join(lines)
    assert "Not compared, with fewer than 10 prompts: Vehicles (4)." in section
    assert "10 prompts have no category." in section
    terminal = to_terminal(document)
    shown = terminal.partition("judge by category of prompts (exploratory)")[2]
    assert "Animals" in shown
    assert f"{difference:+.2f}" in shown
    table = list(csv.DictReader(io.StringIO(categories_csv(rows))))
    assert {line["scorer"] for line in table} == {"judge", "clip_emoji", "aesthetic"}, "every scorer, on demand"
    line = next(each for each in table if each["cell"] == row.cell and each["scorer"] == "judge")
    assert (line["category"], line["prompts"], float(line["baseline_difference"])) == (
        "Animals",
        "14",
        pytest.approx(difference),
    )
    assert line["baseline_marked"] == "true"


def test_a_long_table_is_counted_on_the_terminal(divided) -> None:
    _, results, rows = divided
    many = [
        dataclasses.replace(row, categories=row.categories[:2] * 8) if row.primary and row.categories else row
        for row in rows
    ]
    terminal = to_terminal(build_document(results.sweep, many))
    assert "48 differences by category of prompts, 24 of them marked °; table.md has them" in terminal
    assert "Animals" not in terminal


def test_one_seed_has_intervals_for_new_prompts_and_no_mark(tmp_path) -> None:
    one = world()
    one.cells = [dataclasses.replace(cell, seeds=cell.seeds[:1]) for cell in one.cells]
    results = load(tmp_path, write_sweep(tmp_path, one))
    rows = build_rows(results)
    comparison = primary(rows)["metric=difference"].categories[0].comparison
    assert (comparison.estimate, comparison.mark) == (None, None)
    section = build_document(results.sweep, rows).categories
    assert "new prompts of the category and these trained models alone" in unstyled(section.blocks[0].notes[0].text)


@pytest.mark.slow
def test_an_incomplete_cell_has_no_mark_and_counts(tmp_path) -> None:
    partial = world()
    partial.cells[1].absent = (2,)
    results = load(tmp_path, write_sweep(tmp_path, partial))
    every = build_rows(results)
    rows = primary(every)
    assert "| `metric=difference`‡ | Animals |" in to_markdown(build_document(results.sweep, every))
    assert rows["metric=difference"].categories[0].comparison.mark is None
    assert rows["metric=winner_only"].categories[0].comparison.marked
    diverged = world()
    diverged.cells[0].diverged = (1,)
    rows = build_rows(load(tmp_path / "other", write_sweep(tmp_path / "other", diverged)))
    assert all(not row.categories for row in rows), "the baseline diverged"


def test_frames_have_the_category_of_every_score(divided) -> None:
    runs, results, _ = divided
    scores = analysis.results(results.sweep.folder.name, runs=runs).scores
    of_prompt = scores[scores["split"] == "evaluation"].drop_duplicates("prompt_id")["category"]
    assert of_prompt.value_counts().to_dict() == {"Animals": 14, "Food | drink": 12, "Vehicles": 4}
    assert of_prompt.isna().sum() == 10


def test_evaluations_that_disagree_are_refused(tmp_path) -> None:
    folder = write_sweep(tmp_path, world())
    load(tmp_path, folder)
    key = json.loads((folder / "cells.json").read_text())["cells"][3]["stages"]["evaluate"]
    evaluation = tmp_path / "artefacts" / "evaluate" / key
    other = dict.fromkeys(json.loads((evaluation / FILE).read_text()), "Other")
    (evaluation / FILE).write_text(json.dumps(other))
    seal(evaluation, "evaluate", key)
    with pytest.raises(
        UserError, match="has the category 'Other', in another cell 'Animals'; evaluate all cells with one"
    ):
        load(tmp_path, folder)


@pytest.mark.slow
def test_files_and_page_have_them_only_where_there_are_any(tmp_path) -> None:
    """``categories.csv`` goes when a sweep has no categories any more; no other file names them."""
    folder = write_sweep(tmp_path / "with", world())
    write(tmp_path / "with", folder)
    assert (folder / "categories.csv").read_text().count("\n") == 1 + 3 * 3 * 4
    write_page(tmp_path / "with", folder)
    page = (folder / "report.html").read_text()
    assert '<a href="#categories">Categories</a>' in page
    section = page.partition('<section id="categories">')[2].partition("</section>")[0]
    assert "Food | drink" in section
    bare = write_sweep(tmp_path / "without", world(categories=()))
    (bare / "categories.csv").write_text("of an earlier table")
    write(tmp_path / "without", bare)
    write_page(tmp_path / "without", bare)
    assert not (bare / "categories.csv").exists()
    texts = [path for path in bare.iterdir() if path.suffix in (".md", ".csv")]
    assert len(texts) > 1
    assert not [path.name for path in texts if "categor" in path.read_text().lower()]
    assert 'id="categories"' not in (bare / "report.html").read_text()
    assert "#categories" not in (bare / "report.html").read_text()
