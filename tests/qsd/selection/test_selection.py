"""Selection strategies: counts, ties, subsets, odds, weights, strata, independence of the order of rows."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsd.config.schema import SelectionConfig
from qsd.draws import uniforms
from qsd.errors import UserError
from qsd.selection.order import best_first, kept_count
from qsd.selection.strategies import REGISTRY, Candidates, Chosen

ALL = {
    "top_k": {},
    "bottom_k": {},
    "random": {},
    "threshold": {},
    "weighted_sampling": {},
    "weighted_sampling with replacement": {"replacement": True},
    "loss_weighting": {},
    "stratified_top_k": {},
    "curriculum": {},
}
NESTED = [name for name in ALL if name not in ("threshold", "weighted_sampling with replacement")]
few_values = st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.5000001, 1.0, -3.0]), min_size=1, max_size=40)


def settings(name: str = "top_k", fraction: float = 10, **changes: Any) -> SelectionConfig:
    """Settings of a member of ``ALL``; every value reaches the threshold."""
    usual = {"strategy": name.split()[0], "fraction": fraction, "threshold": -100, **ALL[name]}
    return dataclasses.replace(SelectionConfig(), **{**usual, **changes})


def candidates(quality: np.ndarray, ids: list[str], seed: int = 0) -> Candidates:
    """Pairs in three strata that follow from their ids."""
    stratum = np.array([int(name[-1], 36) % 3 for name in ids], dtype=np.int64)
    return Candidates(quality, ids, uniforms(ids, seed, "selection"), stratum)


def run(pairs: Candidates, config: SelectionConfig) -> Chosen:
    return REGISTRY.get(config.strategy).function(pairs, config)


def chosen(quality: np.ndarray, ids: list[str], config: SelectionConfig, seed: int = 0) -> list[str]:
    """Ids that the strategy keeps, best first."""
    selected = run(candidates(quality, ids, seed), config)
    assert len(set(selected.rows.tolist())) == len(selected.rows) == len(selected.weights)
    assert selected.rows.dtype == np.int64
    assert (selected.weights > 0).all()
    return [ids[row] for row in selected.rows]


def names(count: int) -> list[str]:
    return [f"{number * 7919 % 100003:05d}" for number in range(count)]


def test_every_strategy_is_tested_here() -> None:
    assert sorted({name.split()[0] for name in ALL}) == REGISTRY.names()


@pytest.mark.slow
@given(values=few_values, fraction=st.floats(0.1, 100), data=st.data())
@pytest.mark.parametrize("name", ALL)
def test_the_order_of_rows_does_not_matter(
    name: str, values: list[float], fraction: float, data: st.DataObject
) -> None:
    quality, ids, config = np.array(values), names(len(values)), settings(name, fraction)
    shuffled = data.draw(st.permutations(range(len(values))))
    expected = run(candidates(quality, ids), config)
    other_ids = [ids[row] for row in shuffled]
    selected = run(candidates(quality[shuffled], other_ids), config)
    assert [other_ids[row] for row in selected.rows] == [ids[row] for row in expected.rows]
    np.testing.assert_array_equal(selected.weights, expected.weights)


@given(values=few_values, small=st.floats(0.1, 100), large=st.floats(0.1, 100))
@pytest.mark.parametrize("name", NESTED)
def test_smaller_fractions_are_subsets(name: str, values: list[float], small: float, large: float) -> None:
    quality, ids = np.array(values), names(len(values))
    small, large = min(small, large), max(small, large)
    less, more = (chosen(quality, ids, settings(name, fraction)) for fraction in (small, large))
    assert set(less) <= set(more)
    assert len(less) == kept_count(len(values), settings(name, small))
    if name != "stratified_top_k":
        assert more[: len(less)] == less


@pytest.mark.parametrize(
    "total, fraction, expected",
    [(1000, 5.33, 53), (851_293, 5.33, 45_374), (3, 1, 1), (10, 100, 10), (7, 50, 4), (1, 0.001, 1)],
)
def test_counts_by_hand(total: int, fraction: float, expected: int) -> None:
    assert kept_count(total, settings(fraction=fraction)) == expected


@pytest.mark.parametrize("name", NESTED)
def test_a_count_goes_before_the_fraction_and_never_past_the_data(name: str) -> None:
    quality, ids = np.arange(20.0), names(20)
    assert len(chosen(quality, ids, settings(name, fraction=100, count=7))) == 7
    assert chosen(quality, ids, settings(name, count=5)) == chosen(quality, ids, settings(name, fraction=25))
    with pytest.raises(UserError, match=r"selection.count is 21, but there are 20 pairs to select from; lower it"):
        chosen(quality, ids, settings(name, count=21))


@given(values=few_values, fraction=st.floats(0.1, 100))
def test_top_k_keeps_nothing_worse_than_what_it_leaves(values: list[float], fraction: float) -> None:
    quality, ids = np.array(values), names(len(values))
    kept = [ids.index(name) for name in chosen(quality, ids, settings("top_k", fraction))]
    expected = sorted(range(len(values)), key=lambda row: (-quality[row], ids[row]))[: len(kept)]
    assert kept == expected
    worst = [ids.index(name) for name in chosen(quality, ids, settings("bottom_k", fraction))]
    assert worst == sorted(range(len(values)), key=lambda row: (quality[row], ids[row]))[: len(worst)]


def test_ties_are_broken_by_pair_id() -> None:
    ids = ["d", "a", "c", "b"]
    assert chosen(np.zeros(4), ids, settings(fraction=50)) == ["a", "b"]
    assert best_first(np.array([1.0, 2.0, 1.0, 1.0]), ids, 2).tolist() == [1, 3]


def test_threshold() -> None:
    quality, ids = np.array([0.1, 0.5, 0.9, 0.5]), ["a", "b", "c", "d"]
    assert chosen(quality, ids, settings("threshold", threshold=0.5)) == ["c", "b", "d"]
    with pytest.raises(UserError, match=r"threshold 0\.95 keeps no pair: the highest Q is 0\.9"):
        chosen(quality, ids, settings("threshold", threshold=0.95))


def test_random_depends_on_the_seed_and_not_on_quality() -> None:
    ids = names(200)
    first = chosen(np.full(200, np.nan), ids, settings("random", 20))
    assert first == chosen(np.arange(200.0), ids, settings("random", 20))
    assert first != chosen(np.full(200, np.nan), ids, settings("random", 20), seed=1)


def test_weighted_sampling_goes_from_top_k_to_random() -> None:
    ids = names(400)
    quality = np.random.default_rng(0).normal(3, 5, 400)
    cold, hot = (chosen(quality, ids, settings("weighted_sampling", 10, temperature=t)) for t in (1e-9, 1e9))
    assert cold == chosen(quality, ids, settings("top_k", 10))
    assert hot == chosen(quality, ids, settings("random", 10))


def test_weighted_sampling_and_random_keep_more_of_the_same_pairs_than_chance() -> None:
    """Two independent halves of 2,000 pairs share 500; a control whose chance leans the other way shares far fewer."""
    ids = names(2_000)
    quality = np.random.default_rng(0).normal(size=2_000)
    both = (set(chosen(quality, ids, settings(name, 50))) for name in ("weighted_sampling", "random"))
    assert len(set.intersection(*both)) > 600


def drawn(config: SelectionConfig, quality: np.ndarray, uniform: np.ndarray) -> Chosen:
    ids = [str(row) for row in range(len(quality))]
    return run(Candidates(quality, ids, uniform, np.zeros(len(quality), dtype=np.int64)), config)


@pytest.mark.slow
def test_weighted_sampling_draws_with_the_stated_odds() -> None:
    """One of two pairs, Q = ±1: z = ±1, so the better one is drawn with probability e / (e + 1/e)."""
    quality, config = np.array([1.0, -1.0]), settings("weighted_sampling", 50)
    rng = np.random.default_rng(0)
    draws = 4_000
    better = sum(drawn(config, quality, rng.random(2)).rows[0] == 0 for _ in range(draws))
    expected = np.e / (np.e + 1 / np.e)
    assert better / draws == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / draws))


@pytest.mark.slow
def test_draws_with_replacement_have_the_stated_odds_and_are_independent() -> None:
    """Half of the draws of 8 pairs in 4,000 trials: the mean weight of each is 4 p, the variance that of a binomial."""
    rng, trials = np.random.default_rng(0), 4_000
    quality = rng.normal(size=8)
    config = settings("weighted_sampling with replacement", 50, temperature=0.7)
    odds = np.exp((quality - quality.mean()) / quality.std() / 0.7)
    p = odds / odds.sum()
    weights = np.zeros((trials, 8))
    for trial in range(trials):
        selected = drawn(config, quality, rng.random(8))
        weights[trial, selected.rows] = selected.weights
    assert (weights.sum(axis=1) == 4).all()
    np.testing.assert_allclose(weights.mean(axis=0), 4 * p, atol=4 * np.sqrt(4 * 0.25 / trials))
    np.testing.assert_allclose(weights.var(axis=0), 4 * p * (1 - p), atol=0.08)


@given(values=few_values, fraction=st.floats(0.1, 100), seed=st.integers(0, 5))
def test_draws_with_replacement_are_whole_numbers_that_add_up(values: list[float], fraction: float, seed: int) -> None:
    quality, ids = np.array(values), names(len(values))
    config = settings("weighted_sampling with replacement", fraction)
    selected = run(candidates(quality, ids, seed), config)
    assert selected.weights.sum() == kept_count(len(values), config)
    assert (selected.weights == np.round(selected.weights)).all()
    assert (np.diff(quality[selected.rows]) <= 0).all()


def test_the_last_uniform_number_below_one_draws_a_pair() -> None:
    config = settings("weighted_sampling with replacement", 100, temperature=1e-3)
    assert drawn(config, np.array([1.0, 0.0, -1.0]), np.full(3, 1 - 2.0**-53)).rows.tolist() == [0]
    assert drawn(config, np.array([1.0, 0.0, -1.0]), np.zeros(3)).rows.tolist() == [0]


@given(values=few_values, fraction=st.floats(0.1, 100), temperature=st.floats(0.2, 100))
def test_loss_weights_follow_quality_and_have_mean_one(
    values: list[float], fraction: float, temperature: float
) -> None:
    quality, ids = np.array(values), names(len(values))
    selected = run(candidates(quality, ids), settings("loss_weighting", fraction, temperature=temperature))
    kept = quality[selected.rows]
    assert selected.weights.mean() == pytest.approx(1)
    assert (np.diff(selected.weights) <= 0).all()
    if kept.std() > 0:
        slope = np.diff(np.log(selected.weights)) * temperature * kept.std()
        np.testing.assert_allclose(slope, np.diff(kept), atol=1e-9)


def test_loss_weighting_refuses_to_lose_a_pair_by_rounding() -> None:
    quality, ids = np.array([0.0] * 99 + [-1.0]), names(100)
    with pytest.raises(
        UserError, match=r"temperature 0\.1 leaves 1 of 100 pairs without weight; raise it above 0\.116"
    ):
        chosen(quality, ids, settings("loss_weighting", 100, temperature=0.1))
    assert len(chosen(quality, ids, settings("loss_weighting", 100, temperature=0.117))) == 100


def webster(sizes: list[int], count: int) -> list[int]:
    """Seats by highest averages with the divisors 1, 3, 5, …, one at a time."""
    seats = [0] * len(sizes)
    for _ in range(count):
        averages = [Fraction(size, 2 * had + 1) for size, had in zip(sizes, seats, strict=True)]
        seats[averages.index(max(averages))] += 1
    return seats


def averages_of(sizes: list[int], seats: list[int]) -> list[Fraction]:
    """The averages at which the seats were given: equal for two outcomes that differ by ties alone."""
    return sorted(Fraction(size, 2 * had + 1) for size, many in zip(sizes, seats, strict=True) for had in range(many))


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=5), fraction=st.floats(1, 100))
def test_strata_get_their_share(sizes: list[int], fraction: float) -> None:
    """Every stratum's count is Webster's, and its best pairs are kept, best of all first."""
    stratum = np.repeat(np.arange(len(sizes)), sizes)
    total = len(stratum)
    quality = np.random.default_rng(total).permutation(total).astype(float)
    config = settings("stratified_top_k", fraction)
    rows = run(Candidates(quality, names(total), np.full(total, np.nan), stratum), config).rows
    seats = np.bincount(stratum[rows], minlength=len(sizes)).tolist()
    assert averages_of(sizes, seats) == averages_of(sizes, webster(sizes, kept_count(total, config)))
    for number, size in enumerate(sizes):
        kept = sorted(quality[row] for row in rows if stratum[row] == number)
        assert kept == sorted(quality[stratum == number])[size - len(kept) :]
    assert (np.diff(quality[rows]) < 0).all()


def test_a_stratum_whose_pairs_are_all_worse_is_still_there() -> None:
    quality = np.arange(30.0)
    stratum = (np.arange(30) >= 10).astype(np.int64)  # the ten worst pairs are stratum 0
    pairs = Candidates(quality, names(30), np.full(30, np.nan), stratum)
    selected = run(pairs, settings("stratified_top_k", 20))
    assert selected.rows.tolist() == [29, 28, 27, 26, 9, 8]
    assert run(pairs, settings("top_k", 20)).rows.tolist() == [29, 28, 27, 26, 25, 24]


@pytest.mark.parametrize("name", ALL)
def test_a_million_pairs_need_few_comparisons_of_text(name: str) -> None:
    """Ids are looked at only where Q ties: the work on text is bounded by the ties, not by the pairs."""

    class Counting(list[str]):
        looked = 0

        def __getitem__(self, key: Any) -> Any:
            Counting.looked += 1
            return super().__getitem__(key)

    count = 20_000
    rng = np.random.default_rng(0)
    quality = rng.random(count)
    quality[:6] = 2.0
    ids = Counting(f"{number:016x}" for number in rng.permutation(count))
    pairs = Candidates(quality, ids, rng.random(count), np.arange(count) % 5)
    run(pairs, settings(name, threshold=0.9, temperature=2.0))
    assert Counting.looked <= 6
