"""Selection strategies: counts, ties, subsets, independence of the order of rows, speed."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsd.config.schema import SelectionConfig
from qsd.draws import uniforms
from qsd.errors import UserError
from qsd.selection.order import best_first, kept_count
from qsd.selection.strategies import REGISTRY

FRACTIONS = [name for name in REGISTRY.names() if "fraction" in REGISTRY.get(name).fields]
ALL = ["top_k", "bottom_k", "random", "threshold", "weighted_sampling"]
few_values = st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.5000001, 1.0, -3.0]), min_size=1, max_size=40)


def settings(fraction: float = 10, threshold: float = -100, temperature: float = 1) -> SelectionConfig:
    return SelectionConfig("top_k", fraction, threshold, temperature)


def chosen(strategy: str, quality: np.ndarray, ids: list[str], config: SelectionConfig, seed: int = 0) -> list[str]:
    """Ids that the strategy keeps, best first."""
    rows, weights = REGISTRY.get(strategy).function(quality, ids, config, uniforms(ids, seed, "selection"))
    assert len(set(rows.tolist())) == len(rows) == len(weights)
    assert rows.dtype == np.int64
    assert (weights > 0).all()
    return [ids[row] for row in rows]


def names(count: int) -> list[str]:
    return [f"{number * 7919 % 100003:05d}" for number in range(count)]


def test_every_strategy_is_tested_here() -> None:
    assert sorted(ALL) == REGISTRY.names()


@given(values=few_values, fraction=st.floats(0.1, 100), data=st.data())
@pytest.mark.parametrize("strategy", ALL)
def test_the_order_of_rows_does_not_matter(
    strategy: str, values: list[float], fraction: float, data: st.DataObject
) -> None:
    quality, ids = np.array(values), names(len(values))
    shuffled = data.draw(st.permutations(range(len(values))))
    expected = chosen(strategy, quality, ids, settings(fraction))
    assert chosen(strategy, quality[shuffled], [ids[row] for row in shuffled], settings(fraction)) == expected


@given(values=few_values, small=st.floats(0.1, 100), large=st.floats(0.1, 100))
@pytest.mark.parametrize("strategy", FRACTIONS)
def test_smaller_fractions_are_subsets(strategy: str, values: list[float], small: float, large: float) -> None:
    quality, ids = np.array(values), names(len(values))
    small, large = min(small, large), max(small, large)
    less, more = (chosen(strategy, quality, ids, settings(fraction)) for fraction in (small, large))
    assert more[: len(less)] == less
    assert len(less) == kept_count(len(values), small)


@pytest.mark.parametrize(
    "total, fraction, expected",
    [(1000, 5.33, 53), (851_293, 5.33, 45_374), (3, 1, 1), (10, 100, 10), (7, 50, 4), (1, 0.001, 1)],
)
def test_counts_by_hand(total: int, fraction: float, expected: int) -> None:
    assert kept_count(total, fraction) == expected


@given(values=few_values, fraction=st.floats(0.1, 100))
def test_top_k_keeps_nothing_worse_than_what_it_leaves(values: list[float], fraction: float) -> None:
    quality, ids = np.array(values), names(len(values))
    kept = [ids.index(name) for name in chosen("top_k", quality, ids, settings(fraction))]
    expected = sorted(range(len(values)), key=lambda row: (-quality[row], ids[row]))[: len(kept)]
    assert kept == expected
    worst = [ids.index(name) for name in chosen("bottom_k", quality, ids, settings(fraction))]
    assert worst == sorted(range(len(values)), key=lambda row: (quality[row], ids[row]))[: len(worst)]


def test_ties_are_broken_by_pair_id() -> None:
    ids = ["d", "a", "c", "b"]
    assert chosen("top_k", np.zeros(4), ids, settings(50)) == ["a", "b"]
    assert best_first(np.array([1.0, 2.0, 1.0, 1.0]), ids, 2).tolist() == [1, 3]


def test_threshold() -> None:
    quality, ids = np.array([0.1, 0.5, 0.9, 0.5]), ["a", "b", "c", "d"]
    assert chosen("threshold", quality, ids, settings(threshold=0.5)) == ["c", "b", "d"]
    with pytest.raises(UserError, match=r"threshold 0\.95 keeps no pair: the highest Q is 0\.9"):
        chosen("threshold", quality, ids, settings(threshold=0.95))


def test_random_depends_on_the_seed_and_not_on_quality() -> None:
    ids = names(200)
    first = chosen("random", np.full(200, np.nan), ids, settings(20))
    assert first == chosen("random", np.arange(200.0), ids, settings(20))
    assert first != chosen("random", np.full(200, np.nan), ids, settings(20), seed=1)


def test_weighted_sampling_goes_from_top_k_to_random() -> None:
    ids = names(400)
    quality = np.random.default_rng(0).normal(3, 5, 400)
    cold, hot = (chosen("weighted_sampling", quality, ids, settings(10, temperature=t)) for t in (1e-9, 1e9))
    assert cold == chosen("top_k", quality, ids, settings(10))
    highest_uniforms = [ids[row] for row in np.argsort(-uniforms(ids, 0, "selection"))[:40]]
    assert hot == highest_uniforms


def test_weighted_sampling_draws_with_the_stated_odds() -> None:
    """One of two pairs, Q = ±1: z = ±1, so the better one is drawn with probability e / (e + 1/e)."""
    quality, function = np.array([1.0, -1.0]), REGISTRY.get("weighted_sampling").function
    rng = np.random.default_rng(0)
    draws = 4_000
    better = sum(function(quality, ["a", "b"], settings(50), rng.random(2))[0][0] == 0 for _ in range(draws))
    expected = np.e / (np.e + 1 / np.e)
    assert better / draws == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / draws))


@pytest.mark.parametrize("strategy", ALL)
def test_a_million_pairs_in_two_seconds(strategy: str) -> None:
    count = 1_000_000
    rng = np.random.default_rng(0)
    quality, uniform = np.round(rng.random(count), 5), rng.random(count)  # rounded: many ties
    ids = [f"{number:016x}" for number in rng.permutation(count)]
    start = time.process_time()
    rows, _ = REGISTRY.get(strategy).function(quality, ids, settings(5.33, threshold=0.9467), uniform)
    assert time.process_time() - start < 2
    assert len(rows) == pytest.approx(53_300, rel=0.02)
