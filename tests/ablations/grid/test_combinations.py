"""What a grid means, against a slow and simple reading of the same words; and what may change no key."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ablations.grid.combinations import (
    Choice,
    CyclicError,
    Group,
    TooManyError,
    combinations,
    existing,
    matches,
    product,
)
from ablations.grid.expand import expand, points
from ablations.grid.spec import Sweep, read_sweep
from ablations.planning.plan import make_plan
from tests.ablations import fake_stages
from tests.ablations.conftest import Planner
from tests.ablations.flat_values import FLAT, POOLS

ROOT = Path(__file__).resolve().parents[3]


@st.composite
def axes_and_groups(draw: st.DrawFn) -> tuple[dict[str, tuple[Any, ...]], list[dict[str, tuple[Any, ...]]]]:
    """Up to three axes and up to two zip groups of two, over different fields."""
    names = draw(st.lists(st.sampled_from(sorted(POOLS)), min_size=1, max_size=6, unique=True))
    zipped = draw(st.integers(0, min(2, len(names) // 2)))
    axes = {
        name: tuple(draw(st.lists(st.sampled_from(POOLS[name]), min_size=1, max_size=3, unique_by=repr)))
        for name in names[2 * zipped :][:3]
    }
    zips = []
    for first, second in zip(names[: 2 * zipped : 2], names[1 : 2 * zipped : 2], strict=True):
        length = draw(st.integers(1, 3))
        rows = draw(
            st.lists(
                st.tuples(st.sampled_from(POOLS[first]), st.sampled_from(POOLS[second])),
                min_size=1,
                max_size=length,
                unique_by=repr,
            )
        )
        zips.append({first: tuple(row[0] for row in rows), second: tuple(row[1] for row in rows)})
    return axes, zips


@st.composite
def grids(draw: st.DrawFn, conditional: bool) -> Sweep:
    """A sweep with zip groups, exclusions and, if ``conditional``, axes that exist only for some values of others."""
    axes, zips = draw(axes_and_groups())
    varies = axes | {name: values for group in zips for name, values in group.items()}
    names = list(varies)
    together = {name: set(group) for group in zips for name in group}
    when: dict[str, Choice] = {}
    if conditional:
        for number, name in enumerate(names):  # on earlier names only: acyclic
            others = [other for other in names[:number] if other not in together.get(name, {name})]
            if others and draw(st.booleans()):
                other = draw(st.sampled_from(others))
                when[name] = {other: tuple(draw(some_of(varies[other])))}
    order = list(when)
    random.Random(draw(st.integers(0, 99))).shuffle(order)
    when = {name: when[name] for name in order}
    whole = Sweep("s", "s.yaml", "q", "e", axes, (), {}, (0, 1), {}, tuple(zips), when)
    try:
        every = combinations(whole.groups, when)
    except CyclicError:  # by way of two zip groups
        assume(False)
    baseline = draw(st.sampled_from(every))
    exclude = []
    for _ in range(draw(st.integers(0, 3))):
        chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
        entry = {name: tuple(draw(some_of(varies[name]))) for name in chosen}
        if not matches(baseline, entry):
            exclude.append(entry)
    return Sweep("s", "s.yaml", "q", "e", axes, (), baseline, (0, 1), {}, tuple(zips), when, tuple(exclude))


def some_of(values: tuple[Any, ...]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=len(values), unique_by=repr)


def rows_of(sweep: Sweep) -> list[list[dict[str, Any]]]:
    """Written out once more, without the code under test."""
    plain = [[{name: value} for value in values] for name, values in sweep.axes.items()]
    zipped = [[dict(zip(group, row, strict=True)) for row in zip(*group.values(), strict=True)] for group in sweep.zips]
    return plain + zipped


def excluded(point: dict[str, Any], sweep: Sweep) -> bool:
    return any(all(name in point and point[name] in entry[name] for name in entry) for entry in sweep.exclude)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(grids(conditional=False))
def test_the_number_of_cells_is_the_product_minus_the_exclusions(sweep: Sweep) -> None:
    every = [{k: v for row in rows for k, v in row.items()} for rows in itertools.product(*rows_of(sweep))]
    out = sum(excluded(point, sweep) for point in every)
    listed = [dict(point.axes) for point in points(sweep)]
    size = 1
    for rows in rows_of(sweep):
        size *= len(rows)
    assert len(listed) == size - out
    assert len({repr(point) for point in listed}) == len(listed), "every combination once"
    assert listed == [point for point in every if not excluded(point, sweep)], "and in order, the last fastest"
    assert sum(point.is_baseline for point in points(sweep)) == 1


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(grids(conditional=True))
def test_conditional_axes_collapse(sweep: Sweep) -> None:
    wanted = set()
    for rows in itertools.product(*rows_of(sweep)):
        point = {name: value for row in rows for name, value in row.items()}
        while True:  # an axis goes while its condition does not hold
            gone = [
                name
                for name, condition in sweep.when.items()
                if name in point and any(point.get(other, "absent") not in condition[other] for other in condition)
            ]
            if not gone:
                break
            for name in gone:
                del point[name]
        if not excluded(point, sweep):
            wanted.add(repr(sorted(point.items())))
    listed = [repr(sorted(point.axes.items())) for point in points(sweep)]
    assert sorted(listed) == sorted(wanted)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(grids(conditional=True))
def test_every_combination_becomes_one_cell_unless_it_means_the_same(sweep: Sweep) -> None:
    grid = expand(sweep, FLAT, fake_stages)
    names = {cell.name for cell in grid.cells if cell.role != "base"}
    merged = sum(1 for _ in points(sweep)) - len(names)
    assert merged >= 0
    assert bool(grid.notices) == (merged > 0)
    assert len({cell.cell_id for cell in grid.cells}) == len(grid.cells)


def shuffled(value: Any, chance: random.Random) -> Any:
    """The same mapping with its keys in another order, at every depth; lists keep theirs."""
    if isinstance(value, dict):
        items = list(value.items())
        chance.shuffle(items)
        return {key: shuffled(inner, chance) for key, inner in items}
    return [shuffled(item, chance) for item in value] if isinstance(value, list) else value


WRITTEN: dict[str, Any] = {
    "question": "q",
    "experiment": "tiny",
    "axes": {"loss.name": ["dpo", "sft"], "loss.beta": [100, 200], "quality.metric": ["product", "difference"]},
    "zip": [{"lora.rank": [4, 8], "lora.alpha": [8, 16]}],
    "when": {"loss.beta": {"loss.name": ["dpo"]}},
    "exclude": [{"quality.metric": "difference", "lora.rank": 8}],
    "include": [{"lora.rank": 32, "lora.alpha": 32}],
    "controls": [{"selection.strategy": "random", "loss.beta": 300}],
    "baseline": {"loss.name": "dpo", "loss.beta": 100, "quality.metric": "product", "lora.rank": 4},
    "seeds": [0, 1],
    "overrides": {"training": {"steps": 5}, "generation.steps": 7},
}


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**6))
def test_the_order_of_keys_in_the_file_changes_no_stage(world: Path, seed: int) -> None:
    keys = []
    for content in (WRITTEN, shuffled(WRITTEN, random.Random(seed))):
        Path("sweeps/order.yaml").write_text(json.dumps(content))
        plan = make_plan(read_sweep(Path("sweeps/order.yaml")), fake_stages)
        keys.append((set(plan.nodes), {cell.cell_id for cell in plan.cells}, len(plan.grid.notices)))
    assert keys[0] == keys[1]
    assert len(keys[0][1]) == ((2 + 1) * (2 * 2 - 1) + 1 + 1) * 2 + 1


_ADDED = """
import dataclasses, json, sys
import qsd.config.schema as schema
from qsd.config.fields import meaning
if sys.argv[1] == "added":
    for section in [name for name in vars(schema) if name.endswith("Config") and name != "ExperimentConfig"]:
        old = getattr(schema, section)
        new = dataclasses.make_dataclass(section, [("brand_new", int, meaning(5, "a field of tomorrow"))], bases=(old,))
        new.__module__ = schema.__name__
        setattr(schema, section, new)
from qsd.config.check import schema_fields
from pathlib import Path
from ablations.planning.plan import make_plan
from ablations.grid.spec import read_sweep
from qsd.stages import spec
assert ("lora.brand_new" in schema_fields()) == (sys.argv[1] == "added")
plan = make_plan(read_sweep(Path("sweeps/metric_formula.yaml")), spec)
print(json.dumps([[cell.cell_id, *(node.key for node in cell.stages.values())] for cell in plan.cells]))
"""


@pytest.mark.slow
def test_a_field_added_with_a_default_changes_no_key() -> None:
    """Every section of the schema gets one, as if a later version had it; all keys of a shipped sweep stay."""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", _ADDED, which], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for which in ("as it is", "added")
    ]
    assert json.loads(outputs[0]) == json.loads(outputs[1])
    assert len(json.loads(outputs[0])) > 4


def test_many_conditional_axes_are_not_multiplied_out() -> None:
    """Each of six losses with two own axes of five values: 150 cells, although the product has 1.4 thousand million."""
    own = {f"own.{number}{letter}": tuple(range(5)) for number in range(6) for letter in "ab"}
    groups = [Group({"loss.name": tuple(range(6))}), *(Group({name: values}) for name, values in own.items())]
    when = {name: {"loss.name": (int(name[4]),)} for name in own}
    assert len(combinations(groups, when, most=1000)) == 6 * 25
    with pytest.raises(TooManyError) as error:
        combinations(groups, {}, most=1000)
    assert error.value.least > 1000


def test_a_chain_of_conditions_in_any_order() -> None:
    groups = [Group({"c": (1, 2)}), Group({"b": (1, 2)}), Group({"a": (1, 2)})]
    when: dict[str, Choice] = {"c": {"b": (1,)}, "b": {"a": (1,)}}
    listed = combinations(groups, when)
    assert listed == [{"c": 1, "b": 1, "a": 1}, {"c": 2, "b": 1, "a": 1}, {"b": 2, "a": 1}, {"a": 2}]
    assert existing({"a": 2, "b": 1, "c": 1}, when) == {"a": 2}
    assert [*product({"a": (1, 2), "b": (3,)})] == [{"a": 1, "b": 3}, {"a": 2, "b": 3}]


def test_part_of_a_zip_group_may_depend_on_another_axis() -> None:
    groups = [Group({"loss": ("dpo", "sft")}), Group({"rank": (4, 8, 8), "beta": (1, 2, 3)})]
    listed = combinations(groups, {"beta": {"loss": ("dpo",)}})
    assert listed[3:] == [{"loss": "sft", "rank": 4}, {"loss": "sft", "rank": 8}]
    assert len(listed) == 5


def test_conditional_axes_keep_the_value_of_the_experiment(plan_of: Planner) -> None:
    plan = plan_of(
        """
        question: q
        experiment: tiny
        axes: {loss.name: [dpo, sft], loss.beta: [100, 200]}
        when: {loss.beta: {loss.name: dpo}}
        baseline: {loss.name: dpo, loss.beta: 200}
        seeds: [0]
        overrides: {training.steps: 4}
        """
    )
    assert [cell.name for cell in plan.cells] == ["loss=dpo,beta=100", "loss=dpo,beta=200", "loss=sft", "base"]
    sft = plan.cells[2]
    assert sft.axes == {"loss.name": "sft"}
    assert sft.values["loss.beta"] == 5000, "the fake training reads it; it is the experiment's"
    assert [cell.is_baseline for cell in plan.cells] == [False, True, False, False]
    assert plan.grid.notices == (), "nothing is merged: the sweep says so itself"


def test_includes_are_cells_of_the_grid_over_the_baseline(plan_of: Planner) -> None:
    plan = plan_of(
        """
        question: q
        experiment: tiny
        axes: {lora.rank: [4, 8], loss.name: [dpo, sft], loss.beta: [100, 200]}
        when: {loss.beta: {loss.name: dpo}}
        exclude:
          - {lora.rank: 8, loss.name: [dpo, sft]}
        include:
          - {lora.rank: [8, 64]}
          - {lora.rank: 128, loss.name: sft}
          - {loss.beta: 100}
        baseline: {lora.rank: 4, loss.name: dpo, loss.beta: 100}
        seeds: [0]
        """
    )
    assert [cell.name for cell in plan.cells] == [
        "rank=4,loss=dpo,beta=100",
        "rank=4,loss=dpo,beta=200",
        "rank=4,loss=sft",
        "rank=8,loss=dpo,beta=100",
        "rank=64,loss=dpo,beta=100",
        "rank=128,loss=sft",
        "base",
    ]
    assert [cell.role for cell in plan.cells] == ["grid"] * 6 + ["base"]
    assert plan.grid.notices == ("rank=4,loss=dpo,beta=100: listed 2 times, runs once",)
    assert sum(cell.is_baseline for cell in plan.cells) == 1


def test_what_a_merged_cell_ignores_is_judged_by_the_experiment(plan_of: Planner) -> None:
    """A control that spells out a value of the experiment is the same cell, and keeps what both agree on."""
    plan = plan_of(
        """
        question: q
        experiment: tiny
        axes: {lora.rank: [4, 8]}
        controls: [{training.steps: 3}, {quality.metric: product, selection.strategy: random}]
        baseline: {lora.rank: 4}
        seeds: [0]
        """
    )
    assert [cell.name for cell in plan.cells] == ["rank=4", "rank=8", "metric=product,strategy=random", "base"]
    assert plan.cells[0].axes == {"lora.rank": 4}


def test_the_example_in_the_documentation_has_the_cells_that_it_says(plan_of: Planner) -> None:
    page = (ROOT / "docs" / "sweeps.md").read_text()
    (block,) = [text.split("```")[0] for text in page.split("```yaml\n")[1:] if "\nwhen:" in text.split("```")[0]]
    sweep = plan_of(block.replace("experiment: emoji", "experiment: tiny")).sweep
    assert len(combinations(sweep.groups, sweep.when)) == 16
    assert "4 × 2 × 2 = 16 combinations" in page
    kept = [point for point in points(sweep) if point.role == "grid"]
    assert len(kept) == 13
    assert "Above, 12 combinations are left" in page
    assert "Above, 13." in page
