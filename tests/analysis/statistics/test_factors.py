"""Main effects and interactions by hand values, and which axes are factors."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.data.pairing import Cube, Panel
from analysis.data.sweep import read_sweep
from analysis.statistics.factors import effects, grid_of
from analysis.statistics.marks import estimates
from tests.analysis.synthetic import Cell, World, write_sweep

LEVELS = {("a", 1): 0.0, ("b", 1): 1.0, ("c", 1): -1.0, ("a", 2): 0.5, ("b", 2): 3.5, ("c", 2): -0.5}
"""(loss, rank) -> mean; (a, 1) is the baseline. b at rank 2 is 2 above the sum of both effects."""


def cells_of(levels: dict[tuple[object, ...], float], *axes: str, **changes: object) -> list[Cell]:
    named = [
        ({k: v for k, v in zip(axes, level, strict=True) if v is not None}, mean) for level, mean in levels.items()
    ]
    return [Cell(",".join(f"{k}={v}" for k, v in own.items()), mean, axes=own, **changes) for own, mean in named]


def sweep_of(tmp_path, cells: list[Cell]):
    cells = [*cells, Cell("base", role="base", seeds=(None,))]
    return read_sweep(write_sweep(tmp_path, World(cells, cells[0].name, prompts={"evaluation": 2}, pictures=False)))


def panel_of(cells: list[Cell], seeds=(0, 1, 2), prompts: int = 5) -> Panel:
    rng = np.random.default_rng(1)
    cubes = {}
    for cell in cells:
        noise = rng.normal(0, 0.1, (len(seeds), prompts, 2))
        cubes[cell.name] = Cube(seeds, cell.effect + noise - noise.mean())
    return Panel("evaluation", "judge", "r", "logit", tuple(map(str, range(prompts))), cubes)


def test_main_effects_and_interactions_by_hand(tmp_path):
    cells = cells_of(LEVELS, "loss.name", "lora.rank")
    grid = grid_of(sweep_of(tmp_path, cells))
    assert [(f.name, f.levels, f.baseline) for f in grid.factors] == [
        ("name", ('"a"', '"b"', '"c"'), '"a"'),
        ("rank", ("1", "2"), "1"),
    ]
    panel = panel_of(cells)
    by_levels = {(effect.factors, effect.levels): effect for effect in effects(grid, panel)}
    expected = {
        (("name",), ('"b"',)): ((1.0 - 0.0) + (3.5 - 0.5)) / 2,
        (("name",), ('"c"',)): ((-1.0 - 0.0) + (-0.5 - 0.5)) / 2,
        (("rank",), ("2",)): ((0.5 - 0.0) + (3.5 - 1.0) + (-0.5 + 1.0)) / 3,
        (("name", "rank"), ('"b"', "2")): 3.5 - 1.0 - 0.5 + 0.0,
        (("name", "rank"), ('"c"', "2")): -0.5 + 1.0 - 0.5 + 0.0,
    }
    assert {key: effect.difference for key, effect in by_levels.items()} == pytest.approx(expected)
    assert [by_levels[key].settings for key in expected] == [2, 2, 3, 1, 1]


def test_the_interval_is_that_of_the_marks(tmp_path):
    """Recomputed from the scores: the mean over ranks of the differences by seed and prompt."""
    cells = cells_of(LEVELS, "loss.name", "lora.rank")
    panel = panel_of(cells)
    means = {
        level: np.nanmean(panel.cells[cell.name].values, axis=2) for level, cell in zip(LEVELS, cells, strict=True)
    }
    by_hand = [((means[name, 1] - means["a", 1]) + (means[name, 2] - means["a", 2])) / 2 for name in ("b", "c")]
    all_effects = effects(grid_of(sweep_of(tmp_path, cells)), panel)
    got = [effect.estimate for effect in all_effects if effect.factors == ("name",)]
    for estimate, expected in zip(got, estimates(by_hand), strict=True):
        assert estimate is not None
        assert estimate.interval.low == pytest.approx(expected.interval.low)
        assert estimate.p == pytest.approx(expected.p)


def test_axes_that_change_together_are_one_factor(tmp_path):
    levels = {("a", 4, 8): 0.0, ("b", 4, 8): 1.0, ("a", 16, 32): 2.0, ("b", 16, 32): 3.0}
    grid = grid_of(sweep_of(tmp_path, cells_of(levels, "loss.name", "lora.rank", "lora.alpha")))
    assert [factor.axes for factor in grid.factors] == [("loss.name",), ("lora.rank", "lora.alpha")]
    assert grid.factors[1].name == "rank+alpha"


def test_an_axis_that_another_decides_is_no_factor(tmp_path):
    levels = {("dpo", 4000): 0.0, ("kto", 8000): 1.0, ("slic", 4000): 1.0, ("sft", None): 2.0}
    grid = grid_of(sweep_of(tmp_path, cells_of(levels, "loss.name", "loss.beta")))
    assert [factor.axes for factor in grid.factors] == [("loss.name",)]
    assert effects(grid, panel_of(cells_of(levels, "loss.name", "loss.beta"))) == []


def test_an_effect_is_over_the_settings_that_have_both_cells(tmp_path):
    """b was not evaluated at rank 2, c diverged there: their effects are those at rank 1."""
    cells = cells_of(LEVELS, "loss.name", "lora.rank")
    cells[-1].diverged = (1,)
    panel = panel_of(cells)
    del panel.cells["loss.name=b,lora.rank=2"]
    by_levels = {effect.levels: effect for effect in effects(grid_of(sweep_of(tmp_path, cells)), panel)}
    assert by_levels['"b"',].difference == pytest.approx(1.0)
    assert by_levels['"c"',].difference == pytest.approx(-1.0)
    assert by_levels["2",].difference == pytest.approx(0.5)
    assert ('"b"', "2") not in by_levels
    assert ('"c"', "2") not in by_levels


def test_seeds_that_only_some_cells_have_are_left_out(tmp_path):
    cells = cells_of({("a", 1): 0.0, ("b", 1): 1.0, ("a", 2): 0.0, ("b", 2): 1.0}, "loss.name", "lora.rank")
    panel = panel_of(cells)
    short = panel.cells["loss.name=b,lora.rank=2"]
    panel.cells["loss.name=b,lora.rank=2"] = Cube((2,), short.values[2:])
    by_levels = {effect.levels: effect for effect in effects(grid_of(sweep_of(tmp_path, cells)), panel)}
    assert by_levels['"b"',].estimate is None, "one seed says nothing about others"
    a1, b1 = (panel.cells[f"loss.name={name},lora.rank=1"].values[2] for name in "ab")
    a2, b2 = (panel.cells["loss.name=a,lora.rank=2"].values[2], short.values[2])
    assert by_levels['"b"',].difference == pytest.approx(float((b1 - a1 + b2 - a2).mean() / 2))


def test_numbers(tmp_path):
    levels = {(1, "x", True): 0.0, (5.33, "x", True): 1.0, (100, "y", False): 2.0, (1, "y", True): 0.0}
    factors = grid_of(sweep_of(tmp_path, cells_of(levels, "selection.fraction", "a.b", "c.d"))).factors
    assert {factor.name: factor.numbers() for factor in factors} == {
        "fraction": [1, 5.33, 100],
        "b": None,
    }


def test_a_line_joins_no_two_kinds_that_its_numbers_decide(tmp_path):
    """Each method has steps of its own, and a reward scale: the steps decide both, and the method alone is a kind."""
    levels = {("pairs", 120, 1): 0.0, ("pairs", 252, 1): 1.0, ("spo", 4, 100): 2.0, ("spo", 17, 100): 3.0}
    cells = cells_of(levels, "method.name", "training.steps", "method.reward_scale")
    (factor,) = grid_of(sweep_of(tmp_path, cells)).factors
    assert factor.axes == ("training.steps",)
    assert factor.kinds == ("name=pairs", "name=pairs", "name=spo", "name=spo")


def test_numbers_that_decide_other_numbers_stay_one_line(tmp_path):
    levels = {(4, 1): 0.0, (8, 1): 1.0, (16, 2): 2.0}
    (factor,) = grid_of(sweep_of(tmp_path, cells_of(levels, "lora.rank", "training.epochs"))).factors
    assert factor.kinds == ()
