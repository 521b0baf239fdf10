"""Paired statistics against hand values, scipy, symmetries and a simulation with a known effect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analysis.data.pairing import Cube
from analysis.statistics import bootstrap
from analysis.statistics.bootstrap import percentile_interval, resampled_means
from analysis.statistics.differences import align, compare, noise_floor

FEW = 200


def versus(cell, reference, resamples=FEW):
    pairs = align(cell, reference)
    assert pairs is not None
    return compare([pairs], resamples)[0]


def test_hand_values():
    """Two seeds, two prompts, two images against a base model without seeds."""
    cell = Cube((0, 1), np.array([[[3.0, 1.0], [5.0, 5.0]], [[2.0, 2.0], [9.0, 5.0]]]))
    base = Cube((None,), np.array([[[2.0, 2.0], [5.0, 4.0]]]))
    result = versus(cell, base)
    # Differences: seed 0: [[1, -1], [0, 1]]; seed 1: [[0, 0], [4, 1]].
    assert result.by_seed == {0: 0.25, 1: 1.25}
    assert result.difference == 0.75
    assert result.seed_deviation == pytest.approx(np.sqrt(0.5))
    # Wins: seed 0: 1, 0, tie, 1; seed 1: tie, tie, 1, 1 -> (2.5 + 3) / 8.
    assert result.win_rate == 5.5 / 8
    # Per prompt over seeds and images: 0 and 1.5, so resampled means are 0, 0.75 or 1.5.
    assert (result.these_models.low, result.these_models.high) == (0.0, 1.5)
    assert result.these_models.excludes_zero is False


def test_training_seeds_are_paired_and_only_shared_ones_are_compared():
    cell = Cube((0, 1, 2), np.array([1.0, 2.0, 30.0]).reshape(3, 1, 1))
    baseline = Cube((1, 0), np.array([1.5, 0.25]).reshape(2, 1, 1))
    result = versus(cell, baseline)
    assert result.by_seed == {0: 0.75, 1: 0.5}
    assert result.seeds == (0, 1)
    assert align(Cube((2,), np.ones((1, 1, 1))), baseline) is None


def test_one_seed_has_no_deviation():
    result = versus(Cube((0,), np.ones((1, 5, 1))), Cube((None,), np.zeros((1, 5, 1))))
    assert result.seed_deviation is None
    assert result.estimate is None
    assert not result.marked


def test_an_image_without_a_number_counts_nowhere():
    """Prompt 0 has one image left, in both cells; the mean over prompts weighs prompts alike."""
    hole = float("nan")
    cell = Cube((0, 1), np.array([[[3.0, hole], [5.0, 5.0]], [[2.0, hole], [9.0, 5.0]]]))
    base = Cube((None,), np.array([[[2.0, hole], [5.0, 4.0]]]))
    result = versus(cell, base)
    assert result.by_seed == {0: (1.0 + 0.5) / 2, 1: (0.0 + 2.5) / 2}
    # Wins of prompt 0: 1 and a tie; of prompt 1: tie, 1 and 1, 1.
    assert result.win_rate == ((1 + 0.5) / 2 + (0.5 + 1 + 1 + 1) / 4) / 2


def test_the_noise_floor_compares_seeds_of_one_recipe():
    rng = np.random.default_rng(0)
    level = rng.normal(0, 1, (1, 200, 1))
    equal = Cube((0, 1, 2), np.repeat(level, 3, axis=0) + rng.normal(0, 0.1, (3, 200, 1)))
    apart = Cube((0, 1, 2), equal.values + np.array([0.0, 1.0, 2.0])[:, None, None])
    assert noise_floor([apart]) == (3, 3)
    some, every = noise_floor([equal, apart, Cube((None,), level)])
    assert every == 6
    assert 3 <= some <= 4
    assert noise_floor([Cube((0,), level)]) == (0, 0)
    assert noise_floor([Cube((0, 1, 2), apart.values[:, :1])]) == (0, 0), "one prompt has no interval"


def test_other_prompts_are_refused():
    with pytest.raises(ValueError, match="unpaired"):
        align(Cube((0,), np.ones((1, 5, 1))), Cube((None,), np.ones((1, 6, 1))))


@pytest.mark.parametrize("prompts", [7, 60])
def test_interval_is_that_of_scipy(prompts, monkeypatch):
    """The same generator gives scipy's percentile interval exactly, whatever the chunks."""
    from scipy import stats

    values = np.random.default_rng(5).normal(0.3, 1, prompts)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="percentile", vectorized=True, rng=np.random.default_rng(11)
    ).confidence_interval
    for counts in (2_000_000, 31 * prompts):
        monkeypatch.setattr(bootstrap, "_COUNTS_PER_CHUNK", counts)
        low, high = percentile_interval(resampled_means(values[:, None], 2000, 11))[:, 0]
        assert low == pytest.approx(expected.low, abs=1e-12)
        assert high == pytest.approx(expected.high, abs=1e-12)


def test_one_prompt_has_no_interval():
    """Every resample is that prompt: an interval of no width looked like certainty."""
    cell = Cube((0, 1), np.array([[[3.0, 1.0]], [[2.0, 2.0]]]))
    result = versus(cell, Cube((None,), np.array([[[2.0, 2.5]]])))
    assert result.difference == -0.25
    assert (result.these_models, result.win_rate_these_models) == (None, None)
    assert result.columns()["these_models_low"] is None


scores = hnp.arrays(np.float64, (2, 4, 2), elements=st.sampled_from([-1.5, -0.25, 0.0, 0.25, 3.0]))


@given(scores)
@settings(max_examples=40, deadline=None)
def test_a_cell_against_itself_is_no_difference(values):
    cube = Cube((0, 1), values)
    result = versus(cube, cube)
    assert result.win_rate == 0.5
    assert result.difference == 0
    assert (result.these_models.low, result.these_models.high) == (0, 0)


@given(scores, scores)
@settings(max_examples=40, deadline=None)
def test_swapping_sides_negates_the_difference_and_mirrors_the_win_rate(left, right):
    there, back = versus(Cube((0, 1), left), Cube((0, 1), right)), versus(Cube((0, 1), right), Cube((0, 1), left))
    assert there.difference == -back.difference
    assert there.win_rate == pytest.approx(1 - back.win_rate)
    assert there.these_models.low == pytest.approx(-back.these_models.high)
    assert there.win_rate_these_models.low == pytest.approx(1 - back.win_rate_these_models.high)


@given(scores, scores, st.floats(-5, 5))
@settings(max_examples=25, deadline=None)
def test_what_both_sides_share_cancels(left, right, level):
    shared = level * np.arange(4.0)[:, None]
    plain = versus(Cube((0, 1), left), Cube((0, 1), right))
    shifted = versus(Cube((0, 1), left + shared), Cube((0, 1), right + shared))
    assert shifted.difference == pytest.approx(plain.difference, abs=1e-9)
    assert shifted.these_models.high == pytest.approx(plain.these_models.high, abs=1e-9)


def test_comparisons_do_not_depend_on_their_company():
    rng = np.random.default_rng(3)
    cubes = [Cube((0, 1, 2), rng.normal(size=(3, 20, 2))) for _ in range(3)]
    base = Cube((None,), rng.normal(size=(1, 20, 2)))
    pairs = [pair for cube in cubes if (pair := align(cube, base))]
    together = compare(pairs, FEW)
    for pair, result in zip(pairs, together, strict=True):
        alone = compare([pair], FEW)[0]
        assert alone.these_models.low == pytest.approx(result.these_models.low, abs=1e-12)


def test_coverage_of_a_known_effect():
    """For new prompts and given models: 300 data sets of 60 prompts with skewed noise, held in 90 to 99 %."""
    effect, datasets, prompts = 0.2, 300, 60
    rng = np.random.default_rng(42)
    held = 0
    for number in range(datasets):
        level = rng.normal(0, 3, (1, prompts, 2))
        gain = effect + (rng.exponential(1, (1, prompts, 1)) - 1) + rng.normal(0, 0.5, (1, prompts, 2))
        pairs = align(Cube((0,), level + gain), Cube((None,), level))
        assert pairs is not None
        interval = compare([pairs], 400, seed=number)[0].these_models
        held += interval.low <= effect <= interval.high
    assert 0.90 <= held / datasets <= 0.99
