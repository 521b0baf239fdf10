"""Tables of tuned sweeps: how far the trials are, what was chosen, and results that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ablations.files import write_json
from ablations.planning.cells import find_cell
from ablations.running import finalize
from ablations.store.artefacts import Store
from analysis.data.load import load
from analysis.data.tuning import prompt_digest
from analysis.document.build import build_document
from analysis.document.model import Document
from analysis.render.latex import to_latex
from analysis.render.markdown import to_markdown
from analysis.render.terminal import to_summary, to_terminal
from analysis.statistics.build_rows import build_rows
from qsd.errors import UserError
from tests.ablations.tuned import SMALL, finish, plan_now


def written(store: Store) -> Path:
    return finalize.write_cells(plan_now(store, SMALL), store, "c0ffee")


def document(store: Store, folder: Path) -> Document:
    results = load(store.root, folder)
    return build_document(results.sweep, build_rows(results))


def test_without_any_evaluation_the_answer_says_how_far_the_trials_are(world: Path, store: Store) -> None:
    plan = plan_now(store, SMALL)
    finish(store, plan.trials[:3])
    plan = plan_now(store, SMALL)
    text = finalize.summary_text(plan, store, None)
    assert "No cell is evaluated yet (5 unfinished; tuning: 3 of 12 trials), so there is no verdict" in text
    with pytest.raises(UserError, match=r"no cell is evaluated yet .*tuning: 3 of 12 trials"):
        finalize.write_cells(plan, store, None, least=1)


@pytest.mark.slow
def test_a_table_before_the_choice_is_partial(world: Path, store: Store) -> None:
    plan = plan_now(store, SMALL)
    finish(store, [*plan.trials[:5], *plan.cells])
    folder = written(store)
    states = [cell["state"] for cell in json.loads((folder / "cells.json").read_text())["cells"]]
    assert states == ["unfinished"] * 4 + ["finished"], "only the base model can be evaluated"
    before = document(store, folder)
    assert before.verdict == (
        "Nothing can be said yet: the settings of the cells are not chosen (tuning: 5 of 12 trials).",
    )
    assert before.status == "Partial: 1 of 3 cells has all its results; tuning: 5 of 12 trials"
    assert "tuning: 5 of 12 trials" in to_summary(before)
    assert "5 of 6" in to_terminal(before)


@pytest.mark.slow
def test_a_table_says_what_was_chosen_and_how(world: Path, store: Store) -> None:
    finish(store, plan_now(store, SMALL).trials)
    finish(store, plan_now(store, SMALL).cells)
    folder = written(store)
    after = document(store, folder)
    text = " ".join(to_terminal(after).split())
    sentence = (
        "Each cell was tuned over the same number of settings (3) on 6 validation prompts (split validation) with 2 "
        "seeds (100, 101), by clip_emoji_b"
    )
    edge = "best at the edge of loss.beta, the largest value that was tried: widen the range (loss=ipo)"
    assert sentence in text
    assert edge in text
    assert not after.status
    markdown = to_markdown(after)
    assert f"{sentence}." in markdown
    assert "| `loss=ipo` | loss.beta 2000 | -0.0709 |" in markdown
    assert "| `loss=dpo` | loss.beta 1000 (chosen) | 0.0291 |" in markdown
    assert markdown.count("| `loss=dpo` | loss.beta ") == 1 + 3, "the choice, and every setting that was tried"
    results = load(store.root, folder)
    assert "tuned over the same number of settings" in to_latex(results.sweep, build_rows(results))
    assert {json.loads(row.axes).get("loss.beta") for row in build_rows(results)} == {1000, 2000, None}


@pytest.mark.slow
def test_what_is_scored_where_it_was_tuned_is_refused(world: Path, store: Store) -> None:
    finish(store, plan_now(store, SMALL).trials)
    finish(store, plan_now(store, SMALL).cells)
    folder = written(store)
    path = folder / "cells.json"
    content: dict[str, Any] = json.loads(path.read_text())
    load(store.root, folder)

    tuned_on = {**content["tuning"], "prompt_digests": [prompt_digest("A held-out thing 3")]}
    write_json(path, {**content, "tuning": tuned_on})
    with pytest.raises(
        UserError, match=r"on prompts of split evaluation that they were tuned on \('a held-out thing 3'\)"
    ):
        load(store.root, folder)

    write_json(path, {**content, "tuning": {**content["tuning"], "seeds": [1]}})
    with pytest.raises(UserError, match="'loss=dpo' seed 1 was trained with a tuning seed"):
        load(store.root, folder)


@pytest.mark.slow
def test_the_table_stays_where_it_is_until_another_tuning(world: Path, store: Store) -> None:
    plan = plan_now(store, SMALL)
    finish(store, [*plan.trials[:5], *plan.cells])
    (written(store) / "table.md").write_text("a partial table")
    finish(store, plan.trials)
    finish(store, plan_now(store, SMALL).cells)
    folder = written(store)
    assert (folder / "table.md").exists(), "trials and report are of one sweep"
    other = SMALL.replace("[500, 1000, 2000]", "[500, 1000, 4000]")
    finalize.write_cells(plan_now(store, other), store, "c0ffee")
    assert not (folder / "table.md").exists()
    assert list((folder / "earlier").glob("*/table.md"))


def test_settings_are_written_of_cells_that_have_them(world: Path, store: Store) -> None:
    plan = plan_now(store, SMALL)
    settings = json.loads((written(store) / "settings.json").read_text())
    assert list(settings) == [cell.cell_id for cell in plan.cells if cell.role == "base"]
    finish(store, plan.trials)
    settings = json.loads((written(store) / "settings.json").read_text())
    after = plan_now(store, SMALL)
    assert set(settings) == {cell.cell_id for cell in after.cells}
    assert settings[find_cell(after, "loss=dpo").cell_id]["loss.beta"] == 1000
