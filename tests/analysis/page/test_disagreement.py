"""Which prompts the page puts first: hand values of how far cells and judges are apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.page.disagreement import cells_disagree, judges_disagree, picture_scores, rounded

NAN = float("nan")


def test_scores_of_the_pictures_are_those_of_the_seed_and_the_lowest_image() -> None:
    rows = [
        ("base", None, "p", 0, "a", 1.0),
        ("base", None, "p", 1, "a", 9.0),
        ("cell", 3, "p", 1, "a", 4.0),
        ("cell", 3, "p", 0, "a", 2.0),
        ("cell", 4, "p", 0, "a", 8.0),
        ("cell", 3, "q", 0, "b", 5.0),
    ]
    table = pd.DataFrame(rows, columns=["cell", "seed", "prompt_id", "image_index", "scorer", "score"])
    table["seed"] = table["seed"].astype("Int64")
    scores = picture_scores(table, [("base", None), ("cell", 3)], ["p", "q"], ["a", "b"])
    assert scores.tolist()[0][0] == [1.0, 2.0]
    assert np.isnan(scores[0, 1]).all()
    assert scores[1, 1, 1] == 5.0
    assert np.isfinite(scores).sum() == 3


def test_cells_disagree_by_the_range_of_their_scores() -> None:
    scores = np.array([[[1.0, 4.0, 2.0], [NAN, 3.0, 5.0], [NAN, NAN, 1.0]]])
    assert cells_disagree(scores)[0, :2].tolist() == [3.0, 2.0]
    assert np.isnan(cells_disagree(scores)[0, 2])


def test_judges_disagree_where_their_standardised_opinions_are_apart() -> None:
    """Opinions of both judges are ±1 unit on prompt 0 with opposite signs, and equal on prompt 1."""
    first = [[0.0, 2.0], [0.0, 2.0]]
    second = [[20.0, 0.0], [0.0, 20.0]]
    disagreement = judges_disagree(np.array([first, second]))
    assert disagreement.tolist() == pytest.approx([2.0, 0.0])


def test_units_do_not_matter() -> None:
    draw = np.random.default_rng(0).normal(size=(2, 5, 4))
    scaled = draw * np.array([1.0, 250.0])[:, None, None] + np.array([0.0, -7.0])[:, None, None]
    assert judges_disagree(scaled) == pytest.approx(judges_disagree(draw))


def test_one_judge_or_equal_scores_are_no_number() -> None:
    assert np.isnan(judges_disagree(np.ones((1, 3, 2)))).all()
    assert np.isnan(judges_disagree(np.ones((2, 3, 2)))).all()
    assert rounded(np.array([[NAN, 1.23456789]])) == [[None, 1.2346]]
