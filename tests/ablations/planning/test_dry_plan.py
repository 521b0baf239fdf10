"""The rehearsal: every shape once, with little work, and figures for the full sweep."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ablations.cost.rehearsal import lines, rehearse
from ablations.planning.dry_plan import dry_plan
from ablations.planning.plan import Plan
from ablations.store.artefacts import Store
from qsd.errors import UserError
from tests.ablations import fake_stages
from tests.ablations.conftest import Planner
from tests.ablations.local_run import PRELOAD, events

pytestmark = pytest.mark.slow

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


def test_a_count_and_epochs_are_made_small_too(plan_of: Planner) -> None:
    plan = plan_of(
        "question: q\nexperiment: tiny\naxes: {lora.rank: [4]}\nbaseline: {lora.rank: 4}\nseeds: [0]\n"
        "overrides: {training.budget: epochs, training.epochs: 9, selection.count: 500, selection.prompt_clusters: 9}\n"
    )
    values = dry_plan(plan, fake_stages).cells[0].values
    assert (values["training.budget"], values["training.steps"]) == ("steps", 3)
    assert (values["selection.count"], values["selection.prompt_clusters"]) == (8, 2)


def test_two_full_batches_show_memory_and_pace(plan_of: Planner) -> None:
    text = "question: q\nexperiment: tiny\naxes: {selection.fraction: [50]}\nbaseline: {selection.fraction: 50}\n"
    sizes = "reward.batch_size: 40, encode.batch_size: 300, generation.batch_size: 7"
    (cell, base) = dry_plan(plan_of(f"{text}seeds: [0]\noverrides: {{{sizes}}}\n"), fake_stages).cells
    assert cell.values["data.max_rows"] == 300
    assert cell.values["evaluation.prompts_per_split"] == 7, "two splits, so 14 images"
    assert base.values["evaluation.prompts_per_split"] == 7


def rehearsed(plan: Plan, store: Store) -> dict[str, Any]:
    return json.loads(json.dumps(rehearse(plan, store, table=fake_stages.HERE, preload=PRELOAD)))


def test_a_rehearsal_measures_and_extrapolates(
    plan_of: Planner, store: Store, fake_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "0.1")
    plan = plan_of(SHAPES)
    begin = time.monotonic()
    rehearsal = rehearsed(plan, store)
    lasted = time.monotonic() - begin
    assert rehearsal["failed"]["groups"] == []
    assert not (store.root / "artefacts").exists(), "the store of the sweep is not touched"
    trains = [row for row in rehearsal["shapes"] if row["stage"] == "train"]
    assert [row["full_stages"] for row in trains] == [4] * 4
    for row in trains:
        # On a busy machine a step takes longer than it sleeps, and no longer than the whole rehearsal of 3 steps.
        assert 0.9 * 50 < row["full_seconds"] < 500 * lasted / 2, "500 steps of 0.1 s, judged by 3"
        assert row["max_rss_bytes"] > 1e6
        assert row["max_cuda_bytes"] is None
        assert not row["at_most"]
    assert rehearsal["full_stages"] == len(plan.nodes)
    assert rehearsal["not_rehearsed"] == 0
    assert rehearsal["full_hours"] * 3600 > 16 * 25
    text = "\n".join(lines(rehearsal))
    assert f"all {len(plan.nodes)} stages one after the other: about " in text
    assert "train loss=dpo,rank=4,metric=product seed 3" in text


def test_a_rehearsal_executes_afresh_and_tells_failures(plan_of: Planner, store: Store, fake_log: Path) -> None:
    plan = plan_of("question: q\nexperiment: tiny\naxes: {loss.beta: [610]}\nbaseline: {loss.beta: 610}\nseeds: [0]\n")
    for _ in range(2):
        rehearsal = rehearsed(plan, store)
        assert "error in code or settings" in "\n".join(lines(rehearsal))
        assert rehearsal["not_rehearsed"] == 2, "evaluation is rehearsed with the base model"
    assert {count for line, count in events(fake_log).items() if line.startswith("run ")} == {2}
    claim = Store(store.root / "dryrun", fake_stages.key_of).claims.take("k")
    assert claim is not None
    with pytest.raises(UserError, match="a rehearsal is under way in runs/dryrun"):
        rehearsed(plan, store)
