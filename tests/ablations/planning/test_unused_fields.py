"""A sweep may not set what its cells have no use for: refused by name, with what takes its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ablations.grid.settings import with_settings
from ablations.grid.spec import read_sweep
from ablations.planning.plan import Plan, make_plan
from qsd.errors import UserError
from qsd.stages import spec
from qsd.stages.run_single import run_stage

PROMPTS_INSTEAD = "an on-policy training has method.prompts_per_step; "


def plan_of(folder: Path, settings: dict[str, Any] | None = None, **clauses: Any) -> Plan:
    """A sweep over the emoji world, by its clauses."""
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump({"question": "q", "experiment": "emoji", "seeds": [0], **clauses}))
    return make_plan(with_settings(read_sweep(path), settings or {}), spec)


def zipped(*pairs_per_step: int) -> dict[str, Any]:
    """Cells on pairs and two on-policy ones, each with its own number."""
    columns = {"method.name": ["pairs", "ddpo", "spo"], "training.pairs_per_step": list(pairs_per_step)}
    baseline = {name: values[0] for name, values in columns.items()}
    return {"axes": {"lora.rank": [4]}, "zip": [columns], "baseline": {"lora.rank": 4, **baseline}}


ON_POLICY: dict[str, Any] = {"axes": {"method.name": ["ddpo", "spo"]}, "baseline": {"method.name": "ddpo"}}


def test_what_the_experiment_has_for_other_cells_is_no_mistake(tmp_path: Path) -> None:
    assert len(plan_of(tmp_path, **ON_POLICY).cells) == 3


@pytest.mark.parametrize(
    ("field", "value", "instead"),
    [
        ("training.pairs_per_step", 8, PROMPTS_INSTEAD),
        ("training.epochs", 2.0, "an on-policy training has training.st"),
    ],
)
def test_what_no_cell_uses_is_refused(tmp_path: Path, field: str, value: float, instead: str) -> None:
    with pytest.raises(UserError, match=rf"s\.yaml: overrides: no cell of this sweep has a use for {field}: {instead}"):
        plan_of(tmp_path, **ON_POLICY, overrides={field: value})
    with pytest.raises(UserError, match=rf"--set {field}={value:g}: .*s\.yaml: no cell .*: {instead}"):
        plan_of(tmp_path, {field: value}, **ON_POLICY)


def test_an_override_that_one_cell_uses_stays(tmp_path: Path) -> None:
    mixed = {"axes": {"method.name": ["pairs", "ddpo"]}, "baseline": {"method.name": "pairs"}}
    plan = plan_of(tmp_path, **mixed, overrides={"training.pairs_per_step": 8})
    assert {cell.values["training.pairs_per_step"] for cell in plan.cells} == {8}


def test_a_cell_of_a_zip_group_has_what_it_uses(tmp_path: Path) -> None:
    """The cells on pairs may have another number; the others must have the experiment's."""
    assert len(plan_of(tmp_path, **zipped(8, 16, 16)).cells) == 4
    message = (
        rf"cell 'method=spo.*' has training\.pairs_per_step 8 and no use for it: {PROMPTS_INSTEAD}give this cell 16"
    )
    with pytest.raises(UserError, match=message):
        plan_of(tmp_path, **zipped(8, 16, 8))


def test_a_control_has_what_it_uses(tmp_path: Path) -> None:
    control = {"method.name": "d3po", "training.pairs_per_step": 4}
    with pytest.raises(UserError, match=r"has training\.pairs_per_step 4 and no use for it"):
        plan_of(tmp_path, axes={"lora.rank": [4]}, baseline={"lora.rank": 4}, controls=[control])


def test_cells_that_differ_in_it_alone_are_one_with_a_notice(tmp_path: Path) -> None:
    axes = {"method.name": ["pairs", "ddpo"], "training.pairs_per_step": [8, 16]}
    plan = plan_of(tmp_path, axes=axes, baseline={"method.name": "pairs", "training.pairs_per_step": 8})
    assert len(plan.cells) == 4
    assert any("2 cells mean the same" in notice for notice in plan.notices)


def test_of_two_budgets_the_one_in_force_is_used(tmp_path: Path) -> None:
    rank: dict[str, Any] = {"axes": {"lora.rank": [4]}, "baseline": {"lora.rank": 4}}
    with pytest.raises(UserError, match=r"has a use for training\.epochs: training\.budget is steps; leave"):
        plan_of(tmp_path, **rank, overrides={"training.epochs": 2})
    with pytest.raises(UserError, match=r"has a use for training\.steps: training\.budget is epochs"):
        plan_of(tmp_path, **rank, overrides={"training.budget": "epochs", "training.steps": 9})
    budgets = {"axes": {"training.budget": ["steps", "epochs"]}, "baseline": {"training.budget": "steps"}}
    assert plan_of(tmp_path, **budgets, overrides={"training.epochs": 2}).cells


def test_a_tuned_field_can_make_use_of_it(tmp_path: Path) -> None:
    tune = {
        "budget": 2,
        "fields": {"training.budget": ["steps", "epochs"]},
        "judge": "clip_emoji_b",
        "split": "validation",
        "seeds": [100],
    }
    rank: dict[str, Any] = {"axes": {"lora.rank": [4]}, "baseline": {"lora.rank": 4}}
    assert plan_of(tmp_path, **rank, overrides={"training.epochs": 2}, tune=tune).trials


def test_a_single_stage_refuses_it_too(tmp_path: Path) -> None:
    settings = ["method.name=ddpo", "training.pairs_per_step=8"]
    with pytest.raises(
        UserError, match=rf"--set training\.pairs_per_step: .*train does not use it.*{PROMPTS_INSTEAD[:-2]}"
    ):
        run_stage("train", Path("emoji"), settings, [], tmp_path / "out", lambda *_: None)
