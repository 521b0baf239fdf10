"""The rehearsal: every shape once, with little work, and figures for the full sweep."""

from __future__ import annotations

from ablations.dryrun import dry_plan
from tests.ablations import fake_stages
from tests.ablations.conftest import Planner

SHAPES = """
question: q
experiment: tiny
axes:
  loss.name: [dpo, sft]
  lora.rank: [4, 8]
  quality.metric: [product, difference]
baseline: {loss.name: dpo, lora.rank: 4, quality.metric: product}
seeds: [3, 4]
overrides: {training.steps: 500, training.micro_batch: 2}
"""


def test_each_shape_is_rehearsed_once(plan_of: Planner) -> None:
    plan = plan_of(SHAPES)
    dry = dry_plan(plan, fake_stages)
    assert len(plan.cells) == 2 * 2 * 2 * 2 + 1
    shapes = [(cell.values["loss.name"], cell.values["lora.rank"], cell.role) for cell in dry.cells]
    assert shapes == [
        ("dpo", 4, "grid"),
        ("dpo", 8, "grid"),
        ("sft", 4, "grid"),
        ("sft", 8, "grid"),
        ("dpo", 4, "base"),
    ]
    assert {cell.seed for cell in dry.cells} == {3, None}
    assert {cell.values["training.steps"] for cell in dry.cells} == {3}
    assert {cell.values["training.micro_batch"] for cell in dry.cells} == {2}, "a micro-batch is part of the shape"
    assert not set(dry.nodes) & {key for key, node in plan.nodes.items() if node.stage in ("train", "generate")}
    assert dry.name == plan.name


def test_a_shape_of_another_stage_brings_a_cell_too(plan_of: Planner) -> None:
    axes = "axes: {reward.model: [clip_emoji, aesthetic_emoji]}\nbaseline: {reward.model: clip_emoji}\n"
    plan = plan_of(f"question: q\nexperiment: tiny\n{axes}seeds: [0]\n")
    assert [cell.name for cell in dry_plan(plan, fake_stages).cells] == [
        "reward=clip_emoji",
        "reward=aesthetic_emoji",
        "base",
    ]


def test_little_stays_little(plan_of: Planner) -> None:
    plan = plan_of(
        "question: q\nexperiment: tiny\naxes: {lora.rank: [4]}\nbaseline: {lora.rank: 4}\nseeds: [0]\n"
        "overrides: {training.steps: 1}\n"
    )
    assert dry_plan(plan, fake_stages).cells[0].values["training.steps"] == 1
