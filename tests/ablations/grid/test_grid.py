"""Cells: the product appears once and whole, controls and base beside it, duplicates merged by meaning."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablations.grid.expand import expand
from ablations.grid.keys import Remembered
from ablations.grid.names import short_names
from ablations.grid.spec import Sweep
from qsd.errors import UserError
from tests.ablations import fake_stages
from tests.ablations.conftest import Planner
from tests.ablations.flat_values import FLAT, POOLS


@st.composite
def sweeps(draw: st.DrawFn) -> Sweep:
    names = draw(st.lists(st.sampled_from(sorted(POOLS)), min_size=1, max_size=4, unique=True))
    axes = {
        name: tuple(draw(st.lists(st.sampled_from(POOLS[name]), min_size=1, max_size=4, unique_by=repr)))
        for name in names
    }
    seeds = tuple(draw(st.lists(st.integers(0, 50), min_size=1, max_size=3, unique=True)))
    baseline = {name: draw(st.sampled_from(values)) for name, values in axes.items()}
    controls = tuple(
        {name: draw(st.sampled_from(POOLS[name]))}
        for name in draw(st.lists(st.sampled_from(sorted(POOLS)), max_size=2))
    )
    return Sweep("s", "s.yaml", "q", "e", axes, controls, baseline, seeds, {})


def keys_directly(values: dict[str, Any]) -> tuple[str, ...]:
    """The keys of a cell's stages without any remembering."""
    keys: dict[str, str] = {}
    for stage in fake_stages.stages_of(values):
        inputs = {name: keys[name] for name in fake_stages.stage_inputs(stage, values)}
        version = fake_stages.STAGES[stage].version
        keys[stage] = fake_stages.key_of(stage, version, fake_stages.stage_meaning(stage, values), inputs)
    return tuple(keys.values())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sweeps())
def test_expansion(sweep: Sweep) -> None:
    grid = expand(sweep, FLAT, fake_stages)
    products = [dict(zip(sweep.axes, point, strict=True)) for point in itertools.product(*sweep.axes.values())]
    wanted = {
        tuple(keys_directly(FLAT | axes | {"seed": seed, "adapter": "trained"}) for seed in sweep.seeds)
        for axes in [*products, *({**sweep.baseline, **control} for control in sweep.controls)]
    }
    cells = [cell for cell in grid.cells if cell.role != "base"]
    by_name: dict[str, list[Any]] = {}
    for cell in cells:
        by_name.setdefault(cell.name, []).append(cell)
    got = [tuple(tuple(node.key for node in cell.stages.values()) for cell in group) for group in by_name.values()]
    assert len(got) == len(set(got)), "no cell twice"
    assert set(got) == wanted, "every combination of the axes and every control, by direct keys"
    assert all([cell.seed for cell in group] == list(sweep.seeds) for group in by_name.values())
    assert len({cell.name for cell in cells if cell.is_baseline}) == 1
    assert all(group[0].role == "grid" for group in by_name.values() if group[0].is_baseline)
    assert len({cell.cell_id for cell in grid.cells}) == len({(cell.name, cell.seed) for cell in grid.cells})
    bases = [cell for cell in grid.cells if cell.role == "base"]
    assert len(bases) == len(sweep.axes.get("generation.steps", [0])) or sweep.controls
    for base in bases:
        assert base.seed is None
        assert list(base.stages) == ["generate", "evaluate"]
    merged = len(products) + len(sweep.controls) - len(by_name)
    assert bool(grid.notices) == (merged > 0)


@settings(max_examples=40, deadline=None)
@given(sweeps(), st.randoms())
def test_order_of_axes_and_values_changes_no_key(sweep: Sweep, random: Any) -> None:
    names = list(sweep.axes)
    random.shuffle(names)
    axes = {name: tuple(random.sample(sweep.axes[name], len(sweep.axes[name]))) for name in names}
    other = Sweep("t", "t.yaml", "other", "e", axes, sweep.controls[::-1], sweep.baseline, sweep.seeds, {})
    keys = [
        {(node.stage, node.key) for cell in expand(each, FLAT, fake_stages).cells for node in cell.stages.values()}
        for each in (sweep, other)
    ]
    assert keys[0] == keys[1]


def test_full_factorial_without_redundancy_is_exactly_the_product() -> None:
    axes = {name: tuple(POOLS[name]) for name in ("quality.metric", "loss.name", "lora.rank", "selection.fraction")}
    sweep = Sweep("s", "s.yaml", "q", "e", axes, (), {name: values[0] for name, values in axes.items()}, (0, 1), {})
    grid = expand(sweep, FLAT, fake_stages)
    assert len(grid.cells) == 2 * math.prod(len(values) for values in axes.values()) + 1
    assert grid.notices == ()


def test_names_show_what_differs(plan_of: Planner) -> None:
    plan = plan_of()
    assert list(dict.fromkeys(cell.name for cell in plan.cells)) == [
        "metric=product",
        "metric=difference",
        "metric=winner_only",
        "strategy=random",
        "base",
    ]
    assert [cell.name for cell in plan.cells if cell.is_baseline] == ["metric=product"] * 2
    assert {cell.name: cell.role for cell in plan.cells}["strategy=random"] == "control"


def test_short_names() -> None:
    assert short_names(["quality.metric", "loss.name", "reward.model", "lora.rank"]) == {
        "quality.metric": "metric",
        "loss.name": "loss",
        "reward.model": "reward",
        "lora.rank": "rank",
    }
    assert short_names(["training.steps", "generation.steps"]) == {
        "training.steps": "training.steps",
        "generation.steps": "generation.steps",
    }


def test_cells_that_ignore_an_axis_are_merged_and_it_is_said(plan_of: Planner) -> None:
    plan = plan_of(
        """
        question: q
        experiment: tiny
        axes:
          quality.metric: [product, difference]
          selection.strategy: [top_k, random]
        controls:
          - {selection.strategy: random}
        baseline: {quality.metric: product, selection.strategy: top_k}
        seeds: [0]
        """
    )
    names = [cell.name for cell in plan.cells]
    assert names == ["metric=product,strategy=top_k", "strategy=random", "metric=difference,strategy=top_k", "base"]
    random = plan.cells[1]
    assert random.axes == {"selection.strategy": "random"}
    assert random.role == "grid"
    (notice,) = plan.grid.notices
    assert notice.startswith("strategy=random: 3 cells mean the same and run once (")
    assert notice.endswith("(metric=product,strategy=random; metric=difference,strategy=random)")


def test_a_value_listed_twice_is_merged_and_it_is_said(plan_of: Planner) -> None:
    plan = plan_of(
        "question: q\nexperiment: tiny\naxes: {lora.rank: [4, 8, 4]}\nbaseline: {lora.rank: 4}\nseeds: [0]\n"
    )
    assert [cell.name for cell in plan.cells] == ["rank=4", "rank=8", "base"]
    assert plan.grid.notices == ("rank=4: listed 2 times, runs once",)


def test_a_control_replaces_what_it_names_and_keeps_the_rest_of_the_baseline(plan_of: Planner) -> None:
    plan = plan_of(
        """
        question: q
        experiment: tiny
        axes: {lora.rank: [4, 8], quality.metric: [product, difference]}
        controls: [{quality.metric: winner_only, loss.name: sft}]
        baseline: {lora.rank: 8, quality.metric: difference}
        seeds: [0]
        """
    )
    control = next(cell for cell in plan.cells if cell.role == "control")
    assert control.name == "metric=winner_only,loss=sft"
    assert control.axes == {"lora.rank": 8, "quality.metric": "winner_only", "loss.name": "sft"}
    assert control.values["lora.rank"] == 8


def test_an_axis_of_generation_gives_several_base_models(plan_of: Planner) -> None:
    plan = plan_of(
        "question: q\nexperiment: tiny\naxes: {generation.steps: [5, 50]}\n"
        "baseline: {generation.steps: 5}\nseeds: [0]\n"
    )
    assert [cell.name for cell in plan.cells if cell.role == "base"] == ["base,steps=5", "base,steps=50"]


def test_remembered_function_is_called_once_per_combination_that_it_reads() -> None:
    calls = []

    def function(values: Any) -> str:
        calls.append(1)
        return f"{values['a']}{values['b']}" if values["a"] == 1 else str(values["a"])

    remembered = Remembered(function, varying=["a", "b"])
    for a, b, c in itertools.product([1, 2], [1, 2, 3], [1, 2, 3]):
        values = {"a": a, "b": b, "c": c}
        expected = f"{a}{b}" if a == 1 else str(a)
        assert remembered(values) == expected
    assert len(calls) == 3 + 1


@pytest.mark.slow
def test_every_shipped_sweep_is_sound() -> None:
    from ablations.grid.spec import read_sweep

    folder = Path(__file__).resolve().parents[3] / "sweeps"
    files = sorted(folder.glob("*.yaml"))
    assert {"demo", "metric_formula", "selection_strategy", "data_fraction", "loss", "lora_rank", "reward_model"} <= {
        file.stem for file in files
    }
    for file in files:
        assert expand(read_sweep(file), FLAT, fake_stages).notices == (), file


def test_a_replicate_is_the_same_recipe_with_other_training_seeds() -> None:
    """An A/A sweep: stages that read no seed are shared, trainings are all different, seed numbers pair the cells."""
    axes = {"replicate": (0, 1, 2)}
    grid = expand(Sweep("aa", "aa.yaml", "q", "e", axes, (), {"replicate": 0}, (0, 7), {}), FLAT, fake_stages)
    trained = [cell for cell in grid.cells if cell.role != "base"]
    assert [(cell.name, cell.seed, cell.values["seed"]) for cell in trained] == [
        (f"replicate={number}", seed, seed + 10_000 * number) for number in range(3) for seed in (0, 7)
    ]
    assert len({cell.stages["train"].key for cell in trained}) == 6
    assert len({cell.stages["select"].key for cell in trained}) == 1
    assert sum(cell.role == "base" for cell in grid.cells) == 1
    assert all("replicate" not in cell.values for cell in grid.cells)
    plain = expand(Sweep("s", "s.yaml", "q", "e", {"lora.rank": (8,)}, (), {}, (0, 7), {}), FLAT, fake_stages)
    assert plain.cells[0].stages["train"].key == trained[0].stages["train"].key  # replicate 0 is the recipe itself


def test_seeds_of_another_replicate_are_refused_wherever_they_come_from() -> None:
    for axes, controls in (({"replicate": (0, 1)}, ()), ({"lora.rank": (8,)}, ({"replicate": 1},))):
        sweep = Sweep(
            "aa", "aa.yaml", "q", "e", axes, controls, {name: v[0] for name, v in axes.items()}, (10_000,), {}
        )
        with pytest.raises(UserError, match="seeds must be below 10000"):
            expand(sweep, FLAT, fake_stages)
