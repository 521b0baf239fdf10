"""Settings that are tried: all combinations, or a draw that is the same everywhere."""

from __future__ import annotations

from ablations.grid import samplers

FIELDS = {"loss.beta": (1, 2, 3, 4), "lora.rank": (4, 8, 16)}


def test_a_grid_is_the_product_the_last_field_fastest() -> None:
    settings = samplers.grid({"a": (1, 2), "b": (3, 4)})
    assert settings == ({"a": 1, "b": 3}, {"a": 1, "b": 4}, {"a": 2, "b": 3}, {"a": 2, "b": 4})
    assert samplers.count(FIELDS) == len(samplers.grid(FIELDS)) == 12


def test_a_draw_is_the_same_everywhere_and_without_repetition() -> None:
    drawn = samplers.random(FIELDS, 5, 0)
    assert drawn == (
        {"loss.beta": 1, "lora.rank": 8},
        {"loss.beta": 2, "lora.rank": 4},
        {"loss.beta": 2, "lora.rank": 8},
        {"loss.beta": 2, "lora.rank": 16},
        {"loss.beta": 4, "lora.rank": 4},
    )
    places = [samplers.grid(FIELDS).index(setting) for setting in drawn]
    assert places == sorted(set(places)), "different ones, in the order of the grid"


def test_another_seed_draws_others_and_a_larger_budget_keeps_what_a_smaller_one_has() -> None:
    assert len({repr(samplers.random(FIELDS, 5, seed)) for seed in range(8)}) > 4
    small, large = samplers.random(FIELDS, 5, 3), samplers.random(FIELDS, 8, 3)
    assert all(setting in large for setting in small)
    assert samplers.random(FIELDS, 12, 3) == samplers.grid(FIELDS)


def test_cells_with_other_values_are_tried_at_the_same_places() -> None:
    other = {"loss.ipo_tau": (10, 20, 30, 40), "lora.rank": (4, 8, 16)}
    places = [samplers.grid(FIELDS).index(setting) for setting in samplers.random(FIELDS, 5, 1)]
    assert places == [samplers.grid(other).index(setting) for setting in samplers.random(other, 5, 1)]
