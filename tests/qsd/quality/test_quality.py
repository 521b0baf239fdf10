"""Quality metrics and normalisations: values by hand, directions, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from qsd.data.distinct import Distinct
from qsd.errors import UserError
from qsd.quality.domains import OPEN_UNIT_INTERVAL, POSITIVE, REALS, UNIT_INTERVAL, Domain
from qsd.quality.metrics import REGISTRY as METRICS
from qsd.quality.normalizations import REGISTRY as NORMALIZATIONS
from qsd.quality.pairs import PairScores, normalized, quality
from qsd.quality.ranks import share_below

ONE_PROMPT = np.zeros(100, dtype=np.int64)
SCORED = ["product", "difference", "winner_only", "loser_only", "ratio", "log_odds", "rank_product"]
unit = st.floats(0, 1, width=32)
inner = st.floats(0.001, 0.999)
scores = arrays(np.float64, st.integers(1, 30), elements=st.floats(-50, 50, width=32))


def q(metric: str, winner: float, loser: float) -> float:
    function = METRICS.get(metric).function
    return float(function(np.array([winner]), np.array([loser]), np.array([0.25]))[0])


@pytest.mark.parametrize(
    "metric, expected",
    [
        ("product", 0.8 * 0.7),
        ("difference", 0.5),
        ("winner_only", 0.8),
        ("loser_only", -0.3),
        ("ratio", 8 / 3),
        ("log_odds", np.log(0.8 / 0.2) - np.log(0.3 / 0.7)),
        ("rank_product", 0.25),
        ("random", 0.25),
    ],
)
def test_values_by_hand(metric: str, expected: float) -> None:
    assert q(metric, 0.8, 0.3) == pytest.approx(expected, rel=1e-14)


def test_every_metric_is_tested_here() -> None:
    assert sorted([*SCORED, "random"]) == METRICS.names()


def among(metric: str, winner: float, loser: float) -> float:
    """Q of a pair among three others, so that metrics over ranks have something to rank."""
    winners, losers = np.array([winner, 0.2, 0.5, 0.7]), np.array([loser, 0.1, 0.5, 0.8])
    return float(METRICS.get(metric).function(winners, losers, np.zeros(4))[0])


@given(low=inner, high=inner, loser=inner)
@pytest.mark.parametrize("metric", SCORED)
def test_a_better_winner_never_lowers_quality(metric: str, low: float, high: float, loser: float) -> None:
    low, high = min(low, high), max(low, high)
    assert among(metric, low, loser) <= among(metric, high, loser)


@given(low=inner, high=inner, winner=inner)
@pytest.mark.parametrize("metric", SCORED)
def test_a_better_loser_never_raises_quality(metric: str, low: float, high: float, winner: float) -> None:
    low, high = min(low, high), max(low, high)
    assert among(metric, winner, low) >= among(metric, winner, high)


@given(first=inner, second=inner)
def test_log_odds_and_difference_change_sign_when_the_pair_is_swapped(first: float, second: float) -> None:
    for metric in ("log_odds", "difference"):
        assert q(metric, first, second) == -q(metric, second, first)
    assert q("ratio", first, second) * q("ratio", second, first) == pytest.approx(1)


@given(winner=inner, loser=inner)
def test_log_odds_are_the_odds_of_the_product_against_the_swapped_pair(winner: float, loser: float) -> None:
    odds = q("product", winner, loser) / q("product", loser, winner)
    assert q("log_odds", winner, loser) == pytest.approx(np.log(odds), abs=1e-9)


def test_the_rank_product_by_hand() -> None:
    """Winners rank 3, 1.5, 1.5, 4 of 4, losers 1, 2, 3, 4; an increasing change of the scores is not seen."""
    winner, loser = np.array([5.0, 2.0, 2.0, 9.0]), np.array([-1.0, 0.0, 1.0, 30.0])
    function = METRICS.get("rank_product").function
    expected = np.array([0.625 * 0.875, 0.25 * 0.625, 0.25 * 0.375, 0.875 * 0.125])
    np.testing.assert_allclose(function(winner, loser, np.zeros(4)), expected, rtol=1e-15)
    np.testing.assert_array_equal(function(winner**3, np.exp(loser), np.zeros(4)), function(winner, loser, np.zeros(4)))


@pytest.mark.parametrize("metric", ["product", "difference", "ratio", "log_odds", "rank_product"])
def test_quality_is_strict_inside_the_interval(metric: str) -> None:
    assert among(metric, 0.6, 0.5) > among(metric, 0.4, 0.5) > among(metric, 0.4, 0.6)


@given(winner=unit, loser=unit)
def test_the_product_is_in_the_unit_interval(winner: float, loser: float) -> None:
    assert 0 <= q("product", winner, loser) <= 1


def pair_scores(winner: list[float], loser: list[float]) -> PairScores:
    """Every image and caption distinct."""
    all_places = np.arange(2 * len(winner))
    names = [f"pair-{row}" for row in range(len(winner))]
    distinct = Distinct(all_places, all_places, all_places, all_places % len(winner))
    return PairScores(np.array(winner), np.array(loser), names, distinct)


@pytest.mark.parametrize("winner, loser", [([0.5, 1.2], [0.1, 0.1]), ([0.5, 0.5], [0.1, -0.01])])
def test_the_product_refuses_scores_outside_the_unit_interval(winner: list[float], loser: list[float]) -> None:
    given_scores, uniform = pair_scores(winner, loser), np.zeros(2)
    with pytest.raises(UserError, match=r"clip_emoji gives .*1 of 2 pairs.*pair-1\); set quality.normalization"):
        quality(given_scores, "product", "raw", uniform, "clip_emoji")
    for normalization in ("min_max", "percentile_rank", "sigmoid_z"):
        assert np.isfinite(quality(given_scores, "product", normalization, uniform)).all()
    assert np.isfinite(quality(given_scores, "difference", "raw", uniform)).all()


@pytest.mark.parametrize(
    "metric, winner, loser, remedies",
    [
        ("ratio", [0.5, 0.5], [0.1, 0.0], "percentile_rank or sigmoid_z"),
        ("ratio", [0.5, -0.1], [0.1, 0.2], "percentile_rank or sigmoid_z"),
        ("log_odds", [0.5, 1.0], [0.1, 0.2], "percentile_rank or sigmoid_z"),
        ("log_odds", [0.5, 0.5], [0.1, 0.0], "percentile_rank or sigmoid_z"),
    ],
)
def test_a_metric_refuses_scores_on_which_it_is_not_defined(
    metric: str, winner: list[float], loser: list[float], remedies: str
) -> None:
    domain = METRICS.get(metric).domain.name.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(UserError, match=rf"needs scores in {domain}, .*1 of 2 pairs.*pair-1\).* to {remedies}$"):
        quality(pair_scores(winner, loser), metric, "raw", np.zeros(2))
    for normalization in remedies.split(" or "):
        assert np.isfinite(quality(pair_scores(winner, loser), metric, normalization, np.zeros(2))).all()


def test_a_refused_normalisation_is_not_its_own_remedy() -> None:
    far = [10.0**6] + [0.0] * 1999  # 44 deviations above the mean: the sigmoid is rounded to 1
    with pytest.raises(UserError, match=r"'sigmoid_z' .* to percentile_rank$"):
        quality(pair_scores(far, [0.0] * 2000), "log_odds", "sigmoid_z", np.zeros(2000))


@given(low=st.floats(-2, 2), high=st.floats(-2, 2), closed=st.booleans(), value=st.floats(-3, 3))
@pytest.mark.parametrize("other", [REALS, POSITIVE, UNIT_INTERVAL, OPEN_UNIT_INTERVAL])
def test_what_is_within_a_domain_is_never_outside(
    other: Domain, low: float, high: float, closed: bool, value: float
) -> None:
    inner_domain = Domain("some", min(low, high), max(low, high), closed)
    if inner_domain.within(other) and not inner_domain.outside(np.array([value]))[0]:
        assert not other.outside(np.array([value]))[0]
    if other is REALS:
        assert inner_domain.within(other)


def test_domains_that_fit() -> None:
    assert OPEN_UNIT_INTERVAL.within(UNIT_INTERVAL)
    assert OPEN_UNIT_INTERVAL.within(POSITIVE)
    assert not UNIT_INTERVAL.within(OPEN_UNIT_INTERVAL)
    assert not UNIT_INTERVAL.within(POSITIVE)
    assert not REALS.within(POSITIVE)


@given(values=scores, data=st.data())
@pytest.mark.parametrize("name", ["raw", "min_max", "percentile_rank", "sigmoid_z"])
def test_normalisations_keep_the_order_whatever_the_order_of_rows(
    name: str, values: np.ndarray, data: st.DataObject
) -> None:
    function = NORMALIZATIONS.get(name).function
    before = values.copy()
    result = function(values, ONE_PROMPT[: len(values)])
    np.testing.assert_array_equal(values, before)
    if name != "raw":
        assert result.min() >= 0
        assert result.max() <= 1
    order = np.argsort(values, kind="stable")
    assert (np.diff(result[order]) >= 0).all()
    shuffled = np.array(data.draw(st.permutations(range(len(values)))))
    np.testing.assert_array_equal(function(values[shuffled], ONE_PROMPT[: len(values)]), result[shuffled])


@pytest.mark.slow
@given(values=arrays(np.float64, st.integers(1, 200), elements=st.integers(-5, 5).map(float)))
def test_shares_below_are_average_ranks(values: np.ndarray) -> None:
    np.testing.assert_array_equal(share_below(values), (rankdata(values, method="average") - 0.5) / len(values))


def test_normalisations_by_hand() -> None:
    values = np.array([3.0, 1.0, 2.0, 2.0])
    assert NORMALIZATIONS.get("min_max").function(values, ONE_PROMPT[:4]).tolist() == [1.0, 0.0, 0.5, 0.5]
    assert NORMALIZATIONS.get("percentile_rank").function(values, ONE_PROMPT[:4]).tolist() == [0.875, 0.125, 0.5, 0.5]
    assert NORMALIZATIONS.get("min_max").function(np.full(3, 7.0), ONE_PROMPT[:3]).tolist() == [0.5] * 3


def test_an_image_of_many_pairs_counts_once() -> None:
    """One image of score 1 wins three pairs: its rank is among the four distinct images, not among six places."""
    item = np.array([0, 0, 0, 1, 2, 3])
    first = np.array([0, 3, 4, 5])
    identities = Distinct(first, item, item, ONE_PROMPT[:6])
    given_scores = PairScores(np.full(3, 1.0), np.array([0.0, 2.0, 3.0]), ["a", "b", "c"], identities)
    winner, loser = normalized(given_scores, "percentile_rank")
    assert winner.tolist() == [0.375] * 3
    assert loser.tolist() == [0.125, 0.625, 0.875]


def test_the_sigmoid_of_the_z_score_by_hand() -> None:
    values = np.array([1.0, 2.0, 3.0])
    function = NORMALIZATIONS.get("sigmoid_z").function
    high = 1 / (1 + np.exp(-np.sqrt(1.5)))
    np.testing.assert_allclose(function(values, ONE_PROMPT[:3]), [1 - high, 0.5, high], atol=1e-15)
    np.testing.assert_allclose(function(100 * values - 7, ONE_PROMPT[:3]), function(values, ONE_PROMPT[:3]), atol=1e-12)
    assert function(np.full(3, 0.1), ONE_PROMPT[:3]).tolist() == [0.5] * 3


def test_the_z_score_within_a_prompt_by_hand() -> None:
    """Prompt 7 has three images, prompt 2 two, prompt 5 one, prompt 9 two equal ones."""
    prompts = np.array([7, 2, 7, 5, 2, 7, 9, 9])
    values = np.array([1.0, 10.0, 2.0, 4.0, 30.0, 3.0, 0.1, 0.1])
    z = NORMALIZATIONS.get("per_prompt_z").function(values, prompts)
    edge = np.sqrt(1.5)
    np.testing.assert_allclose(z, [-edge, -1, 0, 0, 1, edge, 0, 0], atol=1e-15)
    assert z[-2:].tolist() == [0, 0]
    shifted = NORMALIZATIONS.get("per_prompt_z").function(values + np.where(prompts == 2, 100.0, 0.0), prompts)
    np.testing.assert_allclose(shifted, z, atol=1e-12)


def test_z_scores_within_a_prompt_reach_the_metric_and_product_refuses_them() -> None:
    """Two pairs under one caption share its four images; a third caption's pair does not move them."""
    winner, loser = np.array([4.0, 3.0, 90.0]), np.array([1.0, 2.0, 50.0])
    six = np.arange(6)
    distinct = Distinct(six, six, six, np.array([0, 0, 1, 0, 0, 1]))
    given_scores = PairScores(winner, loser, ["a", "b", "c"], distinct)
    values = quality(given_scores, "difference", "per_prompt_z", np.zeros(3))
    np.testing.assert_allclose(values, np.array([3.0, 1.0, 0]) / np.sqrt(1.25) + np.array([0, 0, 2.0]), atol=1e-12)
    with pytest.raises(UserError, match=r"normalization 'per_prompt_z' .* to min_max or percentile_rank or sigmoid_z$"):
        quality(given_scores, "product", "per_prompt_z", np.zeros(3))
