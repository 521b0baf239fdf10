"""The document carries what its renderers need: texts, marks, raw numbers with units, anchors, notes to every sign."""

from __future__ import annotations

import dataclasses
import re

import pytest

from analysis.data.load import load
from analysis.data.rows import read_rows, to_json
from analysis.document.build import build_document
from analysis.document.model import FigureReference, Notes, Span, Table, marked_up, unstyled
from analysis.document.verdict import verdict
from analysis.figures.effects import effects
from analysis.render.markdown import to_markdown
from analysis.render.terminal import to_summary, to_terminal
from analysis.statistics.build_rows import build_rows
from tests.analysis.synthetic import Cell, World, usual_world, write_sweep


def built(tmp_path, world, figures=()):
    results = load(tmp_path, write_sweep(tmp_path, world))
    rows = build_rows(results)
    return build_document(results.sweep, rows, figures), rows


def sections_of(document):
    """All sections, those within others too."""
    return [inner for section in document.sections for inner in (section, *section.sections)]


def tables_of(document):
    return [block for section in sections_of(document) for block in section.blocks if isinstance(block, Table)]


def signs_explained(document):
    notes = [block for section in sections_of(document) for block in section.blocks if isinstance(block, Notes)]
    return {note.sign for block in notes for note in block.notes}


@pytest.fixture
def world():
    return usual_world(prompts={"evaluation": 12, "seen": 4}, pictures=False)


@pytest.mark.slow
def test_every_cell_of_the_result_table_carries_its_numbers(tmp_path, world):
    document, rows = built(tmp_path, world)
    scorer = document.splits[0].sections[0]
    table = next(block for block in scorer.blocks if isinstance(block, Table))
    keys = [column.key for column in table.columns]
    assert {column.unit for column in table.columns} == {"", "logit", "share"}
    for row, line in zip(rows, table.rows, strict=False):
        cells = dict(zip(keys, line, strict=True))
        assert unstyled(cells["cell"].text).startswith(row.cell)
        assert cells["mean"].number == row.mean
        for name, comparison in (("baseline", row.versus_baseline), ("base", row.versus_base)):
            difference, share = cells[f"versus_{name}"], cells[f"wins_{name}"]
            if comparison is None:
                assert difference.number is share.number is None
                continue
            interval = comparison.estimate.interval
            assert difference.number == comparison.difference
            assert difference.interval == (interval.low, interval.high)
            assert share.number == comparison.win_rate
            assert difference.marks == ("*" if comparison.marked else "")


@pytest.mark.slow
def test_anchors_are_unique_and_tables_have_captions(tmp_path, world):
    document, _ = built(tmp_path, world)
    tables = tables_of(document)
    anchors = [part.anchor for part in (*sections_of(document), *tables)]
    assert len(anchors) == len(set(anchors))
    assert all(table.caption for table in tables)
    assert len(tables) == 2 * 3 + 2


@pytest.mark.slow
def test_every_sign_in_a_table_is_explained(tmp_path, world):
    world.cells[1].absent = (2,)
    world.cells[2].effect = 3.0
    document, _ = built(tmp_path, world)
    used = {sign for table in tables_of(document) for row in table.rows for cell in row for sign in cell.marks}
    assert used == {"*", "°", "†", "‡"}
    assert used <= signs_explained(document)
    assert used <= {note.sign for note in document.footnotes}


def test_one_seed_explains_no_mark(tmp_path):
    cells = [Cell("a", seeds=(0,)), Cell("b", 3.0, seeds=(0,))]
    document, _ = built(tmp_path, World(cells, "a", prompts={"evaluation": 12}, pictures=False))
    assert not {"*", "°"} & signs_explained(document)
    assert (
        document.footnotes[1]
        .text[0]
        .text.startswith("No marks: with one training seed, chance alone could produce differences of this size.")
    )


@pytest.mark.slow
def test_figures_are_named_and_text_alone_leaves_them_out(tmp_path, world):
    figures = [FigureReference("effects", "Differences.", ("png", "svg"))]
    document, _ = built(tmp_path, world, figures)
    without, _ = built(tmp_path, world)
    assert document.figures == tuple(figures)
    assert to_markdown(document) == to_markdown(without)
    assert to_terminal(document) == to_terminal(without)


def test_signs_of_markdown_in_a_users_text_are_escaped(tmp_path, world):
    world.scorers = {"judge": ("a|b<c*", 1.0)}
    world.cells[1].name = "x|y`z"
    world.cells[1].failed = (0,)
    document, _ = built(tmp_path, world)
    text = to_markdown(document)
    assert r"Unit: a\|b\<c\*; revision" in text
    assert r"- failed: x\|y\`z seed 0: train failed" in text
    assert "| `x/y'z`†‡ |" in text or "| `x/y'z`‡ |" in text
    lines = [line for line in text.split("## What")[0].splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1, "a name opens no column"


def test_the_verdict_is_below_the_question_and_its_names_are_no_markup(tmp_path, world):
    world.cells[2].name = "x|y*z"
    document, rows = built(tmp_path, world)
    assert document.verdict == verdict(rows)
    shown = " ".join(to_terminal(document).split())
    answer = " ".join(document.verdict)
    assert f"{document.question} {answer}" in shown
    assert f"{document.question} {answer}" in " ".join(to_summary(document).split())
    assert r"x\|y\*z" in to_markdown(document).split("Baseline:")[0]


def test_markup_of_our_own_text():
    assert marked_up("a **b** `c` d") == (Span("a "), Span("b", "bold"), Span(" "), Span("c", "code"), Span(" d"))
    assert marked_up("**b**") == (Span("b", "bold"),)
    assert unstyled(marked_up("a **b** `c`")) == "a b c"


def test_a_table_with_a_row_of_another_length_is_refused():
    with pytest.raises(AssertionError, match="table t"):
        Table("t", "caption", (), ((marked_up("x"),),))


@pytest.mark.parametrize(("count", "number"), [(1, "1 prompt"), (9, "9 prompts"), (10, "")])
def test_too_few_prompts_for_intervals_are_named_below_the_table_and_on_a_terminal(tmp_path, count, number):
    document, _ = built(tmp_path, usual_world(prompts={"evaluation": count}, pictures=False))
    sentence = f"nly {number}: with fewer than 10, no interval is to be trusted" if number else "to be trusted"
    assert to_terminal(document).count(sentence) == bool(number)
    assert to_markdown(document).count(sentence) == (len(document.splits[0].sections) if number else 0)
    blocks = document.splits[0].sections[0].blocks
    table = next(number for number, block in enumerate(blocks) if isinstance(block, Table))
    notes = [unstyled(note.text) for block in blocks[table:] if isinstance(block, Notes) for note in block.notes]
    assert any(sentence in note for note in notes) == bool(number)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_one_prompt_prints_no_intervals(tmp_path, seeds):
    """They had no width, beside the warning that none is to be trusted."""
    cells = [Cell("metric=product", effect=0.0, seeds=seeds), Cell("metric=ratio", effect=3.0, seeds=seeds)]
    cells.append(Cell("base model", role="base", seeds=(None,)))
    results = load(
        tmp_path, write_sweep(tmp_path, World(cells, "metric=product", prompts={"evaluation": 1}, pictures=False))
    )
    rows = build_rows(results)
    document = build_document(results.sweep, rows)
    markdown, written = to_markdown(document), to_json(rows)
    assert re.search(r"[+-][\d.]+ — \|", markdown), "a dash for the interval"
    assert re.search(r"\d % — \|", markdown), "and that of the wins"
    assert not re.search(r"\[[+-]\d", markdown)
    assert not re.search(r"\[[+-]\d", to_terminal(document))
    (tmp_path / "rows.json").write_text(written)
    assert read_rows(tmp_path / "rows.json") == rows
    assert effects(results.sweep, rows) is not None


def test_failures_of_one_reason_are_one_line(tmp_path):
    world = usual_world(prompts={"evaluation": 12}, pictures=False)
    world.cells[1].failed, world.cells[2].failed = (0, 1), (1,)
    document, _ = built(tmp_path, world)
    failures = [line for line in document.missing if line.startswith("failed")]
    assert failures == ["failed: metric=difference seeds 0, 1, metric=winner_only seed 1: train failed: out of memory"]


@pytest.mark.parametrize(
    ("question", "written"),
    [
        ("does <script>alert(1)</script> run?", r"does \<script>alert(1)\</script> run?"),
        ("![x](http://a/b.png) `a` |", r"!\[x](http://a/b.png) \`a\` \|"),
        ("# why?", r"\# why?"),
    ],
)
def test_the_words_of_a_question_are_no_markup(tmp_path, world, question, written):
    document, _ = built(tmp_path, world)
    text = to_markdown(dataclasses.replace(document, question=question, title="<b> on x"))
    assert f"\n\n{written}\n\nVerdict: By " in text
    assert f"\n\n{written}\n\n" in text
    assert text.startswith("# \\<b> on x")
