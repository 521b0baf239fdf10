"""Invariant 1: random numbers belong to pairs and prompts, not to batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsd.draws import PairDraws, epoch_order, initial_latents, pair_draws, uniforms

SHAPE = (2, 3, 3)
IDS = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6, unique=True)
SEEDS = st.integers(0, 2**40)


def row(draws: PairDraws, place: int) -> list[bytes]:
    """Every number of one pair, as bytes."""
    return [np.asarray(field[place]).tobytes() for field in vars(draws).values()]


@given(IDS, SEEDS, st.data())
def test_a_pair_draws_the_same_alone_in_any_batch_and_order(ids: list[str], seed: int, data: st.DataObject) -> None:
    indices = [data.draw(st.integers(0, 5)) for _ in ids]
    whole = pair_draws(ids, indices, seed, SHAPE)
    places = data.draw(st.lists(st.sampled_from(range(len(ids))), min_size=1, max_size=8))
    part = pair_draws([ids[place] for place in places], [indices[place] for place in places], seed, SHAPE)
    for here, place in enumerate(places):
        assert row(part, here) == row(whole, place)


@pytest.mark.parametrize("other", [("b", 0, 0), ("a", 1, 0), ("a", 0, 1)])
def test_pair_draw_and_seed_each_change_every_field(other: tuple[str, int, int]) -> None:
    def fields(pair_id: str, index: int, seed: int) -> PairDraws:
        return pair_draws([pair_id], [index], seed, SHAPE)

    first, second = fields("a", 0, 0), fields(*other)
    for name in ("timestep_uniform", "noise", "posterior_noise", "caption_uniform"):
        assert not np.isin(getattr(first, name), getattr(second, name)).any()


def test_streams_are_separate_and_standard_normal() -> None:
    ids = [f"pair {number}" for number in range(400)]
    draws = pair_draws(ids, [0] * 400, 0, (4, 8, 8))
    for field in (draws.noise, draws.posterior_noise):
        assert field.dtype == np.float32
        assert abs(field.mean()) < 0.01
        assert abs(field.std() - 1) < 0.01
    scalars = [draws.noise[:, 0, 0, 0], draws.posterior_noise[:, 0, 0, 0], draws.timestep_uniform]
    scalars += [draws.caption_uniform, draws.flip.astype(float)]
    correlation = np.corrcoef(np.stack(scalars)) - np.eye(len(scalars))
    assert np.abs(correlation).max() < 0.2
    assert 0.4 < draws.flip.mean() < 0.6


def test_timesteps_cover_their_range() -> None:
    draws = pair_draws([str(number) for number in range(2000)], [0] * 2000, 3, (1, 1, 1))
    timesteps = draws.timesteps(10)
    assert np.bincount(timesteps, minlength=10).min() > 120
    assert timesteps.max() == 9


def test_a_higher_dropout_rate_drops_a_superset() -> None:
    uniform = pair_draws([str(number) for number in range(200)], [0] * 200, 0, (1, 1, 1)).caption_uniform
    assert set(np.flatnonzero(uniform < 0.1)) < set(np.flatnonzero(uniform < 0.3))


@given(IDS, SEEDS, st.integers(0, 3), st.data())
def test_order_of_a_subset_is_the_order_of_the_whole(
    ids: list[str], seed: int, epoch: int, data: st.DataObject
) -> None:
    whole = [ids[place] for place in epoch_order(ids, seed, epoch)]
    subset = data.draw(st.permutations(ids))[: data.draw(st.integers(1, len(ids)))]
    assert [subset[place] for place in epoch_order(subset, seed, epoch)] == [name for name in whole if name in subset]


def test_epochs_and_seeds_have_their_own_order() -> None:
    ids = [str(number) for number in range(50)]
    orders = {tuple(epoch_order(ids, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_initial_latents_belong_to_prompt_index_and_seed() -> None:
    whole = initial_latents(["p", "p", "q"], [0, 1, 0], 0, SHAPE)
    np.testing.assert_array_equal(initial_latents(["q", "p"], [0, 1], 0, SHAPE), whole[[2, 1]])
    assert not np.isin(initial_latents(["p"], [0], 1, SHAPE), whole).any()
    assert not np.isin(whole[0], whole[1:]).any()


def test_uniforms_have_a_purpose() -> None:
    assert (uniforms(["a"], 0, "one") != uniforms(["a"], 0, "two")).all()


def test_draws_never_change_between_versions() -> None:
    """Other numbers would silently break the pairing of cells that are done with cells to come."""
    draws = pair_draws(["0123456789abcdef"], [2], 7, (1, 1, 2))
    assert draws.timesteps(1000).tolist() == TIMESTEPS
    np.testing.assert_allclose(draws.noise.ravel(), NOISE, rtol=1e-6)
    np.testing.assert_allclose(draws.posterior_noise.ravel(), POSTERIOR_NOISE, rtol=1e-6)
    np.testing.assert_allclose(initial_latents(["p1"], [0], 0, (1, 1, 2)).ravel(), LATENTS, rtol=1e-6)
    assert epoch_order(list("abcdef"), 0, 0).tolist() == ORDER


TIMESTEPS = [377]
NOISE = [-1.1679374, 1.5256934]
POSTERIOR_NOISE = [0.89171147, 0.20480618]
LATENTS = [-0.40413824, 2.2657068]
ORDER = [3, 2, 0, 1, 4, 5]
