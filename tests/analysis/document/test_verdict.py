"""The verdict claims no more than the intervals: properties over random rows, and the wording of each case."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from analysis.data.estimate import Estimate, Interval
from analysis.data.rows import Comparison, Mark, Row
from analysis.data.training import Trained
from analysis.document.formatting import decimals, format_interval, format_p, signed
from analysis.document.verdict import verdict

SELECTED = "selected the training pairs"
CELLS = ("base line", "cell b", "cell c", "cell d", "cell e", "cell f")
"""No name is a part of another or of a sentence."""


def comparison(difference=0.1, half=0.05, mark=None, seeds=(0, 1, 2), p=0.01) -> Comparison:
    """``mark``: None without one; its p is 0.01 where given, else 0.4."""
    interval = Interval(difference - half, difference + half)
    estimate = Estimate(interval, 5.0, 0.02, 1e-4, 1e-3, 1e-3, False) if len(seeds) > 1 else None
    given_mark = None if mark is None else Mark(p if mark else 0.4, "Holm", mark)
    return Comparison(difference, interval, dict.fromkeys(seeds, difference), None, 0.5, interval, estimate, given_mark)


def row(cell="cell b", scorer="judge", versus=None, **changes) -> Row:
    values = {
        "cell": cell,
        "role": "base" if cell == "base" else "grid",
        "is_baseline": cell == CELLS[0],
        "axes": json.dumps({"x": cell}),
        "split": "evaluation",
        "scorer": scorer,
        "primary": scorer == "judge",
        "revision": "r",
        "unit": "logit",
        "conflicts": (),
        "mean": 1.0,
        "versus_baseline": versus,
        "versus_base": None,
        "prompts": 40,
        "images_per_prompt": 1,
        "images_left_out": 0,
        "left_out_by": (),
        "seeds": (0, 1, 2),
        "missing_seeds": (),
        "diverged_seeds": (),
        "failed_seeds": (),
        "planned_seeds": 3,
        "noise_floor": (3, 18),
        "detectable": 0.123,
        "cell_ids": ("i",),
        "git_commit": "c",
        "data_digest": "d",
        "trained": Trained(),
    }
    return Row(**{**values, **changes})


def text(rows) -> str:
    return " ".join(verdict(rows))


@st.composite
def tables(draw) -> list[Row]:
    """Rows of up to five cells under up to three judges: marked or not, partial, diverged, with one or more seeds."""
    seeds = draw(st.sampled_from([(0,), (0, 1, 2)]))
    names = CELLS[: draw(st.integers(1, len(CELLS)))]
    floor = (0, 0) if len(seeds) == 1 else draw(st.sampled_from([(0, 9), (3, 18)]))
    detectable = draw(st.sampled_from([None, 0.0714, 0.31]))
    ends = {name: draw(st.sampled_from(["whole", "whole", "missing", "diverged", "failed"])) for name in names}
    rows = []
    for scorer in ("judge", "other", "tuned")[: draw(st.integers(1, 3))]:
        for name in names:
            end, versus = ends[name], None
            if name != CELLS[0] and end != "diverged" and ends[CELLS[0]] != "diverged" and draw(st.booleans()):
                mark = draw(st.booleans()) if len(seeds) > 1 and end == ends[CELLS[0]] == "whole" else None
                versus = comparison(
                    draw(st.floats(-2, 2).map(lambda value: round(value, 3))),
                    draw(st.sampled_from([0.004, 0.08, 0.9])),
                    mark,
                    seeds,
                    draw(st.sampled_from([0.0, 0.00031, 0.042])),
                )
            rows.append(
                row(
                    name,
                    scorer,
                    versus,
                    conflicts=(SELECTED,) if scorer == "tuned" else (),
                    planned_seeds=len(seeds),
                    seeds=seeds,
                    missing_seeds=("1",) if end == "missing" else (),
                    diverged_seeds=(0,) if end == "diverged" else (),
                    failed_seeds=(("2", "out of memory"),) if end == "failed" else (),
                    noise_floor=floor,
                    detectable=detectable,
                    prompts=draw(st.sampled_from([4, 40])),
                )
            )
    return rows


def primary_rows(rows):
    return [each for each in rows if each.primary]


def marked(rows):
    return {each.cell for each in primary_rows(rows) if each.versus_baseline and each.versus_baseline.marked}


def part(sentences, phrase):
    """The sentence with a phrase, without the name of the baseline; empty if there is none."""
    return next((each.replace(CELLS[0], "") for each in sentences if phrase in each), "")


@given(tables())
def test_one_to_five_sentences(rows):
    sentences = verdict(rows)
    assert 1 <= len(sentences) <= 5
    assert all(each.endswith(".") for each in sentences)
    assert all(not re.search(r"[.!?] [A-Z]", each) for each in sentences)


@given(tables())
def test_a_cell_is_called_different_only_if_it_carries_the_mark(rows):
    sentences = verdict(rows)
    different = part(sentences, "compared cells differ")
    named = {cell for cell in CELLS[1:] if cell in different}
    assert named <= marked(rows)
    assert bool(different) == bool(marked(rows))
    if different:
        assert f"{len(marked(rows))} of " in different
        assert len(named) == min(3, len(marked(rows)))
    undecided = part(sentences, "cannot be distinguished")
    assert not {cell for cell in CELLS[1:] if cell in undecided} & marked(rows)


@given(tables())
def test_no_sentence_claims_an_equality(rows):
    assert not re.search(r"\b(equal|the same|identical|no effect|no difference|alike|unchanged)\b", text(rows))
    if part(verdict(rows), "cannot be distinguished") and primary_rows(rows)[0].detectable is not None:
        assert "would be marked with a chance of 80 %" in text(rows)


@given(tables())
def test_with_one_seed_nothing_is_marked_and_the_reason_is_said(rows):
    compared = any(each.versus_baseline for each in primary_rows(rows))
    if rows[0].planned_seeds > 1 or not compared or any(each.diverged for each in rows if each.is_baseline):
        return
    assert "nothing is marked: with one training seed" in text(rows)
    assert "over prompts alone" in text(rows)
    assert not any(phrase in text(rows) for phrase in ("cells differ", "cannot be distinguished", "p = "))


@given(tables())
def test_partial_tables_and_diverged_trainings_are_named(rows):
    sentences = verdict(rows)
    incomplete = {each.cell for each in rows if each.missing_seeds or each.failed_seeds}
    assert ("the table is partial" in text(rows)) == bool(incomplete)
    diverged = {each.cell for each in rows if each.diverged}
    assert ("a training diverged in" in text(rows)) == bool(diverged)
    if len(incomplete) == 1 and not diverged:
        assert next(iter(incomplete)) in next(each for each in sentences if "partial" in each)


@given(tables())
def test_every_number_occurs_in_the_rows(rows):
    """Numbers with decimals are those of the primary rows as the table prints them; whole ones are counts of cells."""
    said = text(rows).replace("95 %", "").replace("80 %", "")
    places = decimals(primary_rows(rows))
    known = {f"{primary_rows(rows)[0].detectable:.{places}f}"} if primary_rows(rows)[0].detectable else set()
    for each in primary_rows(rows):
        if each.versus_baseline:
            known.add(signed(each.versus_baseline.difference, places))
            known |= set(format_interval(each.versus_baseline.these_models, places).strip("[]").split(", "))
            known.add(format_p(each.versus_baseline))
    counts = {str(number) for number in range(len(CELLS) + 1)}
    counts |= {str(number) for number in (*rows[0].noise_floor, *(each.prompts for each in rows), 10)}
    for number in re.findall(r"[+-]?\d+(?:\.\d+)?(?:e-\d+)?", said):
        assert number in known | counts, number


@given(tables(), st.sampled_from(["cell b", "cell c"]))
def test_order_of_rows_and_other_splits_change_nothing_of_what_differs(rows, name):
    """Rows of another split are no part of the answer."""
    other = [row(name, "judge", comparison(5.0, 0.1, True), split="seen", primary=False)]
    first = [each for each in verdict(rows) if "cells differ" in each or "distinguished" in each]
    assert [each for each in verdict([*rows, *other]) if "cells differ" in each or "distinguished" in each] == first


def test_the_wording_of_an_answer():
    rows = [
        row(CELLS[0]),
        row("cell b", versus=comparison(0.2, 0.05, True, p=0.0009)),
        row("cell c", versus=comparison(-0.3, 0.05, True, p=0.00002)),
        row("cell d", versus=comparison(0.01, 0.05, False)),
        row("cell b", "other", comparison(0.1, 0.05, True)),
        row("cell c", "other", comparison(0.1, 0.05, True)),
    ]
    assert verdict(rows) == (
        (
            "By judge on evaluation, 2 of 3 compared cells differ from the baseline base line (95 % intervals, "
            "p by Holm): cell c by -0.300 [-0.350, -0.250], p = 2e-05 and "
            "cell b by +0.200 [+0.150, +0.250], p = 0.0009."
        ),
        (
            "cell d cannot be distinguished from the baseline base line: a true difference of 0.123 would be marked "
            "with a chance of 80 %, a smaller one may well be there."
        ),
        "Of the other independent judges, other marks 1 of 2 in this direction and the opposite of 1.",
        "Noise floor: 3 of 18 comparisons of one recipe with itself at another seed exclude zero over prompts alone.",
    )


def test_a_judge_that_took_part_is_no_witness():
    rows = [row(CELLS[0]), row("cell b", versus=comparison(0.2, 0.05, True)), row("cell b", "tuned", conflicts=("x",))]
    assert "No other independent judge was asked." in verdict(rows)
    rows = [row(CELLS[0], conflicts=("x",)), row("cell b", versus=comparison(0.2, 0.05, True), conflicts=("x",))]
    assert verdict(rows)[0].startswith("By judge on evaluation (no independent judge, see †), 1 of 1 compared cells")


def test_reward_hacking_is_part_of_the_verdict():
    rows = [
        row(CELLS[0]),
        row("cell b", versus=comparison(-0.2, 0.05, True)),
        row("cell b", "tuned", comparison(0.2, 0.05, True), conflicts=(SELECTED,)),
    ]
    assert (
        "a sign of reward hacking in cell b: a reward of the training rose while an independent judge fell or "
        "high-frequency texture rose"
    ) in text(rows)


def test_a_judge_without_all_seeds_of_a_cell_says_nothing_of_it():
    rows = [row(CELLS[0]), *(row(cell, versus=comparison(0.2, 0.05, True)) for cell in ("cell b", "cell c"))]
    rows += [row("cell b", "other", comparison(0.2, 0.05, None)), row("cell c", "other", comparison(0.2, 0.05, True))]
    assert "Of the other independent judges, other marks 1 of 1 in this direction." in verdict(rows)
    assert "Of the other independent judges, other has no complete comparison of them." in verdict(rows[:-1])


def test_texture_is_asked_for_no_opinion():
    rows = [
        row(CELLS[0]),
        row("cell b", versus=comparison(0.2, 0.05, True)),
        row("cell b", "texture", comparison(0.2, 0.05, True)),
    ]
    assert "No other independent judge was asked." in verdict(rows)


def test_one_prompt_is_no_sign_of_anything():
    """Its interval over prompts is a point, which excludes zero whatever the training did."""
    rows = [
        row(CELLS[0], prompts=1, noise_floor=(0, 0)),
        row("cell b", versus=comparison(-0.2, 0.0), prompts=1, noise_floor=(0, 0)),
        row("cell b", "tuned", comparison(0.2, 0.0), conflicts=(SELECTED,), prompts=1, noise_floor=(0, 0)),
    ]
    rows = [
        replace(
            each,
            versus_baseline=each.versus_baseline and replace(each.versus_baseline, estimate=None, these_models=None),
        )
        for each in rows
    ]
    said = text(rows)
    assert "hacking" not in said
    assert "cell b is farthest from the baseline base line, -0.2000." in said
    assert "1 prompt is too few for any interval" in said
    assert "[" not in said


def test_a_sweep_of_the_baseline_alone_is_compared_with_the_base_model():
    alone = row(CELLS[0], versus_base=comparison(0.2, 0.05, True))
    assert "1 of 1 compared cells differs from the base model" in text([alone, row("base")])
    assert "0.123" not in text([alone, row("base")])


def test_nothing_evaluated_and_a_diverged_baseline():
    assert "no results yet" in text([row("cell b", "other")])
    assert "nothing can be compared with the baseline base line yet" in text([row(CELLS[0]), row("cell b")])
    every = text([row(CELLS[0]), row("cell b", diverged_seeds=(0,)), row("base", role="base")])
    assert "nothing can be compared with the baseline base line: every other cell diverged." in every
    diverged = text([row(CELLS[0], diverged_seeds=(1,)), row("cell b")])
    assert "a training of the baseline base line diverged, so no cell can be compared" in diverged
    alone = text([row(CELLS[0], diverged_seeds=(1,)), row("base")])
    assert "a training of the baseline base line diverged, so no cell can be compared" in alone
