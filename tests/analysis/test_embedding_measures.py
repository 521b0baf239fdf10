"""Measures on embeddings in the tables of a sweep, from files to words, and the sentence about reward hacking."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from analysis.data.load import load
from analysis.data.rows import read_rows
from analysis.document.build import build_document
from analysis.document.model import Table, unstyled
from analysis.document.sentences import missing_distances, reward_hacking
from analysis.figures.effects import effects
from analysis.render.markdown import to_markdown
from analysis.render.terminal import render_terminal, to_terminal
from analysis.report import write
from analysis.statistics.build_rows import build_rows
from qsd.errors import UserError
from qsd.evaluation.embeddings import Embeddings, read_embeddings, write_embeddings
from tests.analysis.synthetic import Cell, World, seal, stage_keys, write_sweep

pytestmark = pytest.mark.slow

MEASURED = ["judge", "aesthetic", "clip_emoji", "distance_to_base", "diversity"]


def moved_world():
    """A baseline, a cell that moves far from the base model, one that does not, the base model."""
    cells = [
        Cell("a"),
        Cell("moved", drift=1.0),
        Cell("still"),
        Cell("base model", role="base", seeds=(None,), reward_model=None),
    ]
    return World(cells, "a", prompts={"evaluation": 12, "seen": 4}, pixels=16, pictures=False, embedded=True)


@pytest.fixture
def world():
    """A world to change."""
    return moved_world()


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The store, results and rows of a world that nobody changes."""
    runs = tmp_path_factory.mktemp("measured")
    results = load(runs, write_sweep(runs, moved_world()))
    return runs, results, build_rows(results)


def of(rows, scorer):
    """The rows of one scorer on the first split, by cell."""
    return {row.cell: row for row in rows if row.scorer == scorer and row.split == "evaluation"}


def words(text):
    """Text without line breaks."""
    return " ".join(text.split())


def folder_of(runs, cell, seed):
    return runs / "artefacts" / "evaluate" / stage_keys(cell, seed)["evaluate"]


def replace_vectors(runs, cell, seed, vectors, images=slice(None)):
    """Give an evaluation other vectors, of some of its images."""
    folder = folder_of(runs, cell, seed)
    about = read_embeddings(folder).about.take(np.arange(len(read_embeddings(folder).vectors))[images])
    write_embeddings(folder, Embeddings(about, vectors))
    seal(folder, "evaluate", stage_keys(cell, seed)["evaluate"])


def test_distances_are_those_of_the_same_prompt_and_image(measured):
    runs, results, _ = measured
    world, scores = moved_world(), results.scores
    distances = scores[scores["scorer"] == "distance_to_base"]
    assert set(distances["cell"]) == {cell.name for cell in world.cells} - {"base model"}
    assert set(distances["unit"]) == {"1 - cosine"}
    assert set(distances["revision"].astype(str)) == {"diversity-r1"}
    base = read_embeddings(folder_of(runs, world.cells[-1], None))
    place = {image: number for number, image in enumerate(base.images())}
    own = read_embeddings(folder_of(runs, world.cells[1], 2))
    rows = distances[(distances["cell"] == world.cells[1].name) & (distances["seed"] == 2)]
    assert len(rows) == 2 * 16
    for row, vector, image in zip(rows.itertuples(), own.vectors, own.images(), strict=True):
        assert (row.prompt_id, row.image_index) == image
        assert row.score == pytest.approx(1 - float(vector @ base.vectors[place[image]]), abs=1e-6)
    assert set(rows["split"]) == {"evaluation", "seen"}
    assert set(rows["caption"]) == set(scores["caption"])


def test_a_cell_whose_images_are_the_base_models_has_no_distance(tmp_path, world):
    """Whatever the order of the rows in its file."""
    folder = write_sweep(tmp_path, world)
    base = read_embeddings(folder_of(tmp_path, world.cells[-1], None))
    backwards = np.arange(len(base.vectors))[::-1]
    for seed in world.cells[1].seeds:
        replace_vectors(tmp_path, world.cells[1], seed, base.vectors[backwards], backwards)
    rows = of(build_rows(load(tmp_path, folder)), "distance_to_base")
    assert rows[world.cells[1].name].mean == 0
    assert rows[world.baseline].mean > 0.01


def test_measures_are_compared_with_the_baseline_like_any_scorer(measured):
    rows = measured[2]
    assert list(dict.fromkeys(row.scorer for row in rows)) == MEASURED, "judges first, in each split"
    distance, diversity = of(rows, "distance_to_base"), of(rows, "diversity")
    assert "base model" not in distance
    assert "base model" in diversity
    assert all(row.versus_base is None for row in distance.values())
    assert all(row.complete and not row.primary for row in distance.values())
    assert diversity["moved"].versus_base is not None
    moved = distance["moved"].versus_baseline
    assert moved.difference > 0.1
    assert moved.marked
    assert moved.mark.adjustment == "Benjamini-Hochberg"
    assert not distance["still"].versus_baseline.marked
    assert distance["moved"].conflicts == ()


def test_no_word_calls_a_higher_value_of_a_measure_better(tmp_path, measured):
    _, results, rows = measured
    document = build_document(results.sweep, rows)
    for section in document.splits[0].sections:
        table = next(block for block in section.blocks if isinstance(block, Table))
        headings = " ".join(f"{column.heading} {column.brief}" for column in table.columns).lower()
        measure = section.title.split()[0] in ("diversity", "distance_to_base")
        assert ("wins" in headings) != measure
        assert ("higher" in headings) == measure
        assert "better" not in headings
    for text in (to_markdown(document), to_terminal(document)):
        assert "neither more nor less" in words(text).lower()
    world = moved_world()
    world.embedded = False
    plain = load(tmp_path, write_sweep(tmp_path, world))
    text = to_markdown(build_document(plain.sweep, build_rows(plain)))
    assert "distance_to_base" not in text
    assert "neither" not in text.lower()


def test_the_figure_has_no_panel_for_a_distance_minus_the_base_model(measured):
    _, results, rows = measured
    figure = effects(results.sweep, rows).image
    panels = [(axes.get_title("left").split()[0], axes.get_xlabel().split(", minus ")[1]) for axes in figure.axes]
    assert panels == [
        *((scorer, "baseline") for scorer in MEASURED),
        *((scorer, "base model") for scorer in MEASURED if scorer != "distance_to_base"),
    ]
    assert "not evaluated" not in [text.get_text() for axes in figure.axes for text in axes.texts]


def test_written_tables_hold_the_measures_and_follow_the_embeddings(tmp_path, world):
    folder = write_sweep(tmp_path, world)
    write(tmp_path, folder)
    assert [row.scorer for row in read_rows(folder / "rows.json")][-1] == "diversity"
    assert "distance_to_base (1 - cosine), exploratory" in render_terminal(folder)
    lines = (folder / "table.csv").read_text().splitlines()
    assert sum(",distance_to_base," in line for line in lines) == 2 * 3
    assert "### distance_to_base (exploratory)" in (folder / "table.md").read_text()


def test_without_the_base_model_the_column_is_absent_and_a_line_says_so(tmp_path, world):
    world.cells[-1].absent = (None,)
    results = load(tmp_path, write_sweep(tmp_path, world))
    rows = build_rows(results)
    assert not of(rows, "distance_to_base")
    assert of(rows, "diversity")
    document = build_document(results.sweep, rows)
    line = "distance_to_base is absent until the base model is evaluated"
    assert document.missing == ("not evaluated yet: base model", line)
    assert f"- {line}" in to_markdown(document)
    assert line in words(to_terminal(document))


def test_nothing_is_said_of_distances_where_cells_are_missing_or_there_are_none(tmp_path, world):
    for cell in world.cells[:-1]:
        cell.absent = cell.seeds
    only_base = load(tmp_path / "base", write_sweep(tmp_path / "base", world))
    assert missing_distances(only_base.sweep, build_rows(only_base)) == []
    plain = moved_world()
    plain.embedded, plain.cells[-1].absent = False, (None,)
    results = load(tmp_path / "plain", write_sweep(tmp_path / "plain", plain))
    assert missing_distances(results.sweep, build_rows(results)) == []


def test_of_two_base_models_one_may_be_missing(tmp_path):
    cells = [
        Cell("g=1", base="base,g=1"),
        Cell("g=3", base="base,g=3"),
        Cell("base,g=1", role="base", seeds=(None,), reward_model=None),
        Cell("base,g=3", role="base", seeds=(None,), reward_model=None, absent=(None,)),
    ]
    world = World(cells, "g=1", prompts={"evaluation": 6}, pictures=False, embedded=True)
    results = load(tmp_path, write_sweep(tmp_path, world))
    rows = build_rows(results)
    assert set(of(rows, "distance_to_base")) == {"g=1"}
    assert build_document(results.sweep, rows).missing == (
        "not evaluated yet: base,g=3",
        "distance_to_base of g=3 is absent until the base model is evaluated",
    )


def test_embeddings_of_other_images_are_refused(tmp_path, world):
    folder = write_sweep(tmp_path, world)
    own = read_embeddings(folder_of(tmp_path, world.cells[1], 0))
    replace_vectors(tmp_path, world.cells[1], 0, own.vectors[:, :4])
    with pytest.raises(UserError, match="another length"):
        load(tmp_path, folder)
    replace_vectors(tmp_path, world.cells[1], 0, own.vectors[1:], slice(1, None))
    with pytest.raises(
        UserError, match=r"cell 'moved' seed 0 and its base model 'base model' have embeddings of other"
    ):
        load(tmp_path, folder)
    (folder_of(tmp_path, world.cells[1], 0) / "embeddings.parquet").unlink()
    seal(folder_of(tmp_path, world.cells[1], 0), "evaluate", stage_keys(world.cells[1], 0)["evaluate"])
    with pytest.raises(UserError, match=r"embeddings\.parquet: no such file"):
        load(tmp_path, folder)


def test_an_image_without_an_embedding_counts_in_no_cell(tmp_path, world):
    world.prompts = {"evaluation": 30}
    folder = write_sweep(tmp_path, world)
    vectors = read_embeddings(folder_of(tmp_path, world.cells[1], 0)).vectors.copy()
    vectors[0] = np.nan
    replace_vectors(tmp_path, world.cells[1], 0, vectors)
    rows = of(build_rows(load(tmp_path, folder)), "distance_to_base")
    assert {row.images_left_out for row in rows.values()} == {1}
    assert {row.left_out_by for row in rows.values()} == {("'moved' seed 0: 1",)}
    vectors[:3] = np.nan
    replace_vectors(tmp_path, world.cells[1], 0, vectors)
    rows = of(build_rows(load(tmp_path, folder)), "distance_to_base")
    assert rows["moved"].failed_seeds == (("0", "3 of 60 scores of distance_to_base are not finite"),)


# ── Reward hacking ───────────────────────────────────────────────────────────────────────────────────────────────────


def hacking_world(seeds=(0, 1, 2), **effects):
    """``a`` selects by clip_emoji; ``b`` does so with the given effects on the scorers; no other scorer selects."""
    cells = [
        Cell("a", seeds=seeds),
        Cell("b", seeds=seeds, effects=effects),
        Cell("base model", role="base", seeds=(None,), reward_model=None),
    ]
    return World(cells, "a", prompts={"evaluation": 30}, pictures=False, seed_spread=0.0)


def hacking(runs, world, change=None):
    """The lines, the document, and the rows of a world; ``change`` edits cells.json."""
    folder = write_sweep(runs, world)
    if change:
        content = json.loads((folder / "cells.json").read_text())
        for cell in content["cells"]:
            change(cell)
        (folder / "cells.json").write_text(json.dumps(content))
    results = load(runs, folder)
    rows = build_rows(results)
    return reward_hacking(rows), build_document(results.sweep, rows), rows


def test_a_reward_that_rises_while_a_judge_falls_is_said(tmp_path):
    lines, document, rows = hacking(tmp_path, hacking_world(clip_emoji=3.0, judge=-3.0))
    shown = {(row.cell, row.scorer): row for row in rows}
    texts = []
    for reference in ("baseline", "base model"):
        name = "versus_baseline" if reference == "baseline" else "versus_base"
        reward, judge = (getattr(shown["b", scorer], name).difference for scorer in ("clip_emoji", "judge"))
        texts.append((reference, reward, judge))
    pattern = (
        r"b: its own reward rose against the (baseline|base model) \(clip_emoji (\+0\.\d+)\) while the independent "
        r"judge fell \(judge (-\d\.\d+)\): a sign of reward hacking"
    )
    assert len(lines) == 2
    for line, (reference, reward, judge) in zip(lines, texts, strict=True):
        match = re.fullmatch(pattern, line)
        assert match, line
        assert match[1] == reference
        assert float(match[2]) == pytest.approx(reward, abs=1e-3)
        assert float(match[3]) == pytest.approx(judge, abs=0.05)
    markdown = to_markdown(document)
    assert markdown.index(f"- {lines[0]}.") < markdown.index("### judge"), "above the tables"
    assert all(line in words(to_terminal(document)) for line in lines)


def test_several_rewards_and_judges_read_as_one_sentence(tmp_path):
    world = hacking_world(clip_emoji=3.0, aesthetic=2.0, judge=-3.0, second=-2.0)
    world.scorers["second"] = ("cosine", 1.0)

    def label(cell):
        if cell["name"] == "b":
            cell["conflicts"]["aesthetic"] = ["labelled the training pairs"]

    lines, _, _ = hacking(tmp_path, world, label)
    assert re.fullmatch(
        r"b: its own rewards rose against the baseline \(aesthetic \+\S+, clip_emoji \+\S+\) while the independent "
        r"judges fell \(judge -\S+, second -\S+\): a sign of reward hacking",
        lines[0],
    )


@pytest.mark.parametrize(
    ("effects", "why"),
    [
        ({"clip_emoji": 3.0, "judge": 3.0, "aesthetic": 3.0}, "all rise"),
        ({"clip_emoji": -3.0, "judge": -3.0}, "all fall"),
        ({"clip_emoji": 3.0}, "no judge moves"),
        ({"judge": -3.0, "aesthetic": 3.0}, "what rises is no reward of the cell"),
    ],
)
def test_without_both_nothing_is_said(tmp_path, effects, why):
    lines, _, rows = hacking(tmp_path, hacking_world(**effects))
    moved = [row for row in rows if row.versus_baseline and row.versus_baseline.estimate.interval.excludes_zero]
    assert len(moved) == len(effects)
    assert lines == [], why


def test_a_judge_that_shares_a_backbone_is_neither_reward_nor_independent(tmp_path):
    def share(cell):
        if cell["role"] != "base":
            cell["conflicts"]["judge"] = ["shares a backbone with clip_emoji, which selected the training pairs"]

    assert hacking(tmp_path / "1", hacking_world(clip_emoji=3.0, judge=-3.0), share)[0] == []
    assert hacking(tmp_path / "2", hacking_world(judge=3.0, aesthetic=-3.0), share)[0] == []


def test_a_measure_is_no_judge(tmp_path):
    """Less diversity beside a higher reward is no independent judge that falls."""
    world = hacking_world(clip_emoji=3.0)
    world.embedded = True
    world.cells[1].drift = 0.0
    lines, _, rows = hacking(tmp_path, world)
    assert of(rows, "distance_to_base")["b"].versus_baseline.estimate.interval.high < 0
    assert lines == []


@pytest.mark.slow
def test_texture_is_a_symptom_where_it_rises_and_no_judge_where_it_falls(tmp_path):
    def with_texture(**effects):
        world = hacking_world(**effects)
        world.scorers["texture"] = ("share", 1.0)
        return world

    lines, document, _ = hacking(tmp_path / "1", with_texture(clip_emoji=3.0, texture=3.0))
    assert re.fullmatch(
        r"b: its own reward rose against the baseline \(clip_emoji \+\S+\) while high-frequency texture rose "
        r"\(texture \+\S+\): a sign of reward hacking",
        lines[0],
    )
    markdown = to_markdown(document)
    assert "It is no judge: less is not better" in markdown
    table = markdown[markdown.index("### texture") :]
    assert "Higher vs baseline" in table
    assert "Wins vs baseline" not in table[: table.index("\n#", 1)]
    lines, _, _ = hacking(tmp_path / "2", with_texture(clip_emoji=3.0, judge=-3.0, texture=3.0))
    assert "judge fell (judge -" in lines[0]
    assert "and high-frequency texture rose (texture +" in lines[0]
    assert hacking(tmp_path / "3", with_texture(clip_emoji=3.0, texture=-3.0))[0] == [], "it falls"
    assert hacking(tmp_path / "4", with_texture(texture=3.0))[0] == [], "no reward rises"


def test_with_one_seed_the_line_says_of_what_it_speaks(tmp_path):
    lines, _, _ = hacking(tmp_path, hacking_world(seeds=(0,), clip_emoji=3.0, judge=-3.0))
    assert len(lines) == 2
    assert all(line.endswith("hacking, in these trained models (intervals over prompts alone)") for line in lines)


def test_the_name_of_a_cell_opens_no_markup(tmp_path):
    world = hacking_world(clip_emoji=3.0, judge=-3.0)
    world.cells[1].name = "x|y*z"
    lines, document, _ = hacking(tmp_path, world)
    assert lines[0].startswith("x|y*z: its own reward")
    notes = document.splits[0].blocks[0].notes
    assert unstyled(notes[0].text).startswith("x|y*z: its own reward")
    assert r"- x\|y\*z: its own reward" in to_markdown(document)
