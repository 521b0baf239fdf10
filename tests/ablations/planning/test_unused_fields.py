"""A sweep may not set what its cells do not read: refused by place and name, with what takes its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ablations.grid.settings import with_settings
from ablations.grid.spec import read_sweep
from ablations.planning.plan import Plan, make_plan
from qsd.config.check import schema_fields
from qsd.config.fields import Kind
from qsd.config.find import find_experiment
from qsd.config.load import load_flat
from qsd.errors import UserError
from qsd.stages import spec
from qsd.stages.run_single import run_stage
from qsd.stages.stage_spec import OF_ALL_STAGES
from qsd.training.methods import REGISTRY as METHODS

PROMPTS_INSTEAD = "an on-policy training has method.prompts_per_step; "


def plan_of(folder: Path, settings: dict[str, Any] | None = None, **clauses: Any) -> Plan:
    """A sweep over the emoji world, by its clauses."""
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump({"question": "q", "experiment": "emoji", "seeds": [0], **clauses}))
    return make_plan(with_settings(read_sweep(path), settings or {}), spec)


def zipped(*pairs_per_step: int) -> dict[str, Any]:
    """Cells on pairs and two on-policy ones, each with its own number."""
    columns: dict[str, Any] = {"method.name": ["pairs", "ddpo", "spo"], "training.pairs_per_step": list(pairs_per_step)}
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
    with pytest.raises(UserError, match=rf"s\.yaml:\d+:\d+: no cell of this sweep has a use for {field}: {instead}"):
        plan_of(tmp_path, **ON_POLICY, overrides={field: value})
    with pytest.raises(UserError, match=rf"--set {field}={value:g}: .*s\.yaml: no cell .*: {instead}"):
        plan_of(tmp_path, {field: value}, **ON_POLICY)


def test_an_override_that_one_cell_uses_stays(tmp_path: Path) -> None:
    mixed: dict[str, Any] = {"axes": {"method.name": ["pairs", "ddpo"]}, "baseline": {"method.name": "pairs"}}
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
    budgets: dict[str, Any] = {
        "axes": {"training.budget": ["steps", "epochs"]},
        "baseline": {"training.budget": "steps"},
    }
    assert plan_of(tmp_path, **budgets, overrides={"training.epochs": 2}).cells


PAIRS: dict[str, Any] = {"axes": {"lora.rank": [4]}, "baseline": {"lora.rank": 4}}


@pytest.mark.parametrize(
    ("sweep", "field", "value", "why"),
    [
        (ON_POLICY, "selection.fraction", 5, "only stage select reads it, which is not needed here"),
        (ON_POLICY, "quality.metric", "difference", "only stage select reads it"),
        (ON_POLICY, "data.max_rows", 10, "only stage data reads it"),
        (ON_POLICY, "data.labelled_by", ["clip_emoji_b"], "only stage data reads it"),
        (ON_POLICY, "encode.batch_size", 2, "only stage encode reads it"),
        (ON_POLICY, "reward.shards", 2, "only stage score reads it"),
        (ON_POLICY, "loss.beta", 9, "an on-policy training has method.beta"),
        (ON_POLICY, "training.reference_errors", "online", "an on-policy training asks the reference once"),
        (ON_POLICY, "method.labels", "step", "only method.name d3po reads it"),
        (ON_POLICY, "method.guide_to", 0.3, "only method.name tailorpo_g reads it"),
        (ON_POLICY, "lora.scaling", "equal_step", "beside the other settings it has no effect"),
        (PAIRS, "method.beta", 9, "only method.name d3po or spo or tailorpo or tailorpo_g reads it"),
        (PAIRS, "method.watched_prompts", 4, "only method.name d3po or ddpo or flow_grpo or spo"),
        (PAIRS, "method.sampling_batch", 4, "only method.name d3po or ddpo or flow_grpo or spo"),
        (PAIRS, "loss.ipo_tau", 4, "only loss.name ipo reads it"),
    ],
)
def test_what_no_stage_reads_is_refused_with_its_readers(
    tmp_path: Path, sweep: dict[str, Any], field: str, value: Any, why: str
) -> None:
    with pytest.raises(UserError, match=rf"s\.yaml:\d+:\d+: no cell of this sweep has a use for {field}: {why}"):
        plan_of(tmp_path, **sweep, overrides={field: value})
    with pytest.raises(UserError, match=rf"--set {field}=.*s\.yaml: no cell .*: {why}"):
        plan_of(tmp_path, {field: value}, **sweep)


def test_the_place_is_that_of_the_field(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"s\.yaml:(\d+):\d+: ") as caught:
        plan_of(tmp_path, **ON_POLICY, overrides={"training.steps": 3, "selection": {"fraction": 5}})
    line = int(str(caught.value).partition("s.yaml:")[2].partition(":")[0])
    assert (tmp_path / "s.yaml").read_text().splitlines()[line - 1].strip() == "fraction: 5"


def test_the_experiment_s_own_value_may_be_repeated(tmp_path: Path) -> None:
    assert plan_of(tmp_path, **ON_POLICY, overrides={"selection.fraction": 20, "training.budget": "steps"}).cells


def test_an_axis_that_no_cell_reads_is_refused(tmp_path: Path) -> None:
    axes = {"method.name": ["ddpo", "spo"], "selection.fraction": [5, 20]}
    baseline = {"method.name": "ddpo", "selection.fraction": 20}
    with pytest.raises(UserError, match=r"s\.yaml:\d+:\d+: no cell .* selection\.fraction: only stage select"):
        plan_of(tmp_path, axes=axes, baseline=baseline)
    mixed = {**axes, "method.name": ["pairs", "ddpo"]}
    assert plan_of(tmp_path, axes=mixed, baseline={"method.name": "pairs", "selection.fraction": 20}).notices
    single = {"method.name": ["pairs", "ddpo"], "selection.fraction": [5]}
    assert plan_of(tmp_path, axes=single, baseline={"method.name": "pairs", "selection.fraction": 5}).cells


def test_what_a_control_has_of_the_baseline_need_not_be_read(tmp_path: Path) -> None:
    """And what it sets itself must be."""
    clauses: dict[str, Any] = {"axes": {"selection.fraction": [5, 10]}, "baseline": {"selection.fraction": 5}}
    assert len(plan_of(tmp_path, **clauses, controls=[{"method.name": "ddpo"}]).cells) == 4
    own = {"method.name": "ddpo", "selection.strategy": "bottom_k"}
    with pytest.raises(
        UserError,
        match=r"s\.yaml:\d+:\d+: cell .* has selection\.strategy bottom_k and no use for it: only stage select",
    ):
        plan_of(tmp_path, **clauses, controls=[own])


def test_a_row_of_a_zip_group_has_what_it_reads(tmp_path: Path) -> None:
    def group(*labels: str) -> dict[str, Any]:
        columns: dict[str, Any] = {"method.name": ["d3po", "d3po", "ddpo"], "method.labels": list(labels)}
        return {"zip": [columns], "baseline": {"method.name": "d3po", "method.labels": labels[0]}}

    assert len(plan_of(tmp_path, **group("trajectory", "step", "trajectory")).cells) == 4
    with pytest.raises(
        UserError, match=r"s\.yaml:\d+:\d+: cell .*ddpo.* has method\.labels step .* only method.name d3po"
    ):
        plan_of(tmp_path, **group("trajectory", "step", "step"))


def test_every_execution_field_changes_how_some_stage_runs() -> None:
    flat = load_flat(find_experiment("emoji"))
    looked_at = {
        name
        for method in METHODS.names()
        for stage in spec.STAGES.values()
        for name in stage.fields({**flat, "method.name": method})
    }
    execution = {name for name, info in schema_fields().items() if info.kind is Kind.EXECUTION}
    assert execution <= looked_at
    stated = set(OF_ALL_STAGES)
    for name, stage in spec.STAGES.items():
        assert stage.execution is not None, f"{name}: it is taken to read every one of them"
        stated |= set(stage.execution(flat))
    assert stated <= execution


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
