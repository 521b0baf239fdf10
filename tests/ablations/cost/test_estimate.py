"""What a plan costs: from records where there are some, scaled by work, and from the stated model where not."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablations.cost import timings
from ablations.cost.estimate import ELSEWHERE, MODEL, RECORDS, Estimator, Site, estimate
from ablations.cost.model_estimate import STARTUP_S
from ablations.cost.workload import Counts, work_of
from ablations.files import write_json
from ablations.grid.keys import StageNode
from ablations.planning.plan import Plan
from ablations.store.artefacts import Store
from ablations.store.states import states
from tests.ablations.command import ablate
from tests.ablations.conftest import SMALL, Planner
from tests.ablations.cost.records import CLUSTER, leave_record, local
from tests.ablations.flat_values import FLAT
from tests.ablations.local_run import run_plan

DPO = 6.2
"""Passes of an image through the denoiser that a pair costs under dpo: 2 forward, 2 backward at 1.1, 2 reference."""


def train_node(plan: Plan) -> StageNode:
    return next(node for node in plan.nodes.values() if node.stage == "train")


def test_work_follows_the_count_and_the_budget() -> None:
    values = FLAT | {"training.steps": 30, "training.pairs_per_step": 4, "selection.fraction": 10.0}
    counted = Counts({("p", None, None): 1000})
    by_epochs = values | {"training.budget": "epochs", "training.epochs": 2.5}
    assert work_of("train", by_epochs, counted).amount == 250 * DPO
    assert work_of("train", by_epochs | {"selection.count": 40}, counted).amount == 100 * DPO
    assert work_of("train", by_epochs | {"selection.count": 1, "training.epochs": 0.1}, counted).amount == 4 * DPO
    assert work_of("encode", values | {"selection.count": 40, "encode.scope": "selection"}, counted).amount == 40
    assert counted.selected(values | {"selection.strategy": "threshold", "selection.count": 40}) == 1000


def test_work_counts_what_time_grows_with() -> None:
    values = FLAT | {
        "training.steps": 30,
        "training.pairs_per_step": 4,
        "evaluation.prompts_per_split": 10,
        "generation.images_per_prompt": 3,
        "generation.steps": 20,
        "evaluation.scorers": ["clip_emoji", "aesthetic_emoji"],
        "selection.fraction": 10.0,
    }
    counted = Counts({("p", None, None): 1000})
    assert work_of("train", values, counted).amount == 120 * DPO
    assert work_of("generate", values, counted).amount == 2 * 10 * 3 * 20 * 2, "with guidance, two passes a step"
    assert work_of("generate", values | {"generation.guidance_scale": 1}, counted).amount == 2 * 10 * 3 * 20
    assert work_of("evaluate", values, counted).amount == 2 * 10 * 3 * 2
    assert work_of("evaluate", values | {"evaluation.embedder": "clip_emoji"}, counted).amount == 2 * 10 * 3 * 3
    assert work_of("score", values, counted).amount == 1000
    assert work_of("encode", values, counted).amount == 100
    assert work_of("encode", values | {"encode.scope": "dataset"}, counted).amount == 1000
    assert work_of("encode", values | {"selection.strategy": "threshold"}, counted).amount == 1000
    assert work_of("data", values | {"data.max_rows": 7}, counted).amount == 7


def test_prompts_and_pairs_are_counted_where_they_can_be(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.csv"
    prompts.write_text(
        "prompt_id,caption,split\n" + "".join(f"{i},c,{'seen' if i % 3 else 'evaluation'}\n" for i in range(9))
    )
    data = tmp_path / "pairs"
    data.write_bytes(b"x" * (2 * 512 * 512 * 6))
    values = FLAT | {"evaluation.prompts": str(prompts), "data.path": str(data), "generation.steps": 1}
    values["generation.guidance_scale"] = 1
    assert work_of("generate", values, Counts({})).amount == 9
    assert work_of("generate", values | {"evaluation.prompts_per_split": 4}, Counts({})).amount == 3 + 4
    assert work_of("data", values, Counts({})).amount == 10, "a pair is taken to be two images of 0.6 bytes per pixel"
    assert work_of("data", values, Counts({(str(data), None, None): 77})).amount == 77


def test_records_scale_with_work(plan_of: Planner, store: Store) -> None:
    plan = plan_of(SMALL)
    node = train_node(plan)
    leave_record(store, "train", "k1", {**node.values, "training.steps": 30}, [100.0, 20.0], size=500)
    cost = Estimator(plan, store, local()).cost(node)
    assert cost.seconds == pytest.approx(10 + 100 * 3 / 30), "two starts of 10 s, and 100 s of work for ten times it"
    assert cost.size == pytest.approx(1000), "an adapter is as large after fewer steps"
    assert (cost.origin, cost.records) == (RECORDS, 1)
    other = {**node.values, "model.resolution": 128, "training.steps": 3}
    assert Estimator(plan, store, local()).cost(StageNode("train", "x", 1, {}, {}, other)).origin == MODEL


def test_a_record_of_one_loss_tells_of_another_by_their_passes(plan_of: Planner, store: Store) -> None:
    node = train_node(plan_of(SMALL))
    leave_record(store, "train", "k1", {**node.values, "loss.name": "dpo"}, [10 + 31.0])
    estimator = Estimator(plan_of(SMALL), store, local())

    def seconds(**loss: Any) -> float:
        # With all labels replaced there is no search for flips after a training, which would be most of so short a one.
        values = {**node.values, "data.relabel": "scores", **{f"loss.{name}": value for name, value in loss.items()}}
        cost = estimator.cost(StageNode("train", "x", 1, {}, {}, values))
        assert cost.origin == RECORDS
        return cost.seconds

    assert seconds(name="dpo") == pytest.approx(10 + 31)
    assert seconds(name="sft") == pytest.approx(10 + 15.5)
    assert seconds(name="adaptive_dpo") == pytest.approx(10 + 51)
    assert seconds(name="adaptive_dpo", adaptive_decays=[0.5]) == pytest.approx(10 + 41)


def test_the_records_nearest_in_work_decide(plan_of: Planner, store: Store) -> None:
    plan = plan_of(SMALL)
    node = train_node(plan)
    for number in range(5):
        leave_record(store, "train", f"near{number}", node.values, [10.0 + number])
    for number in range(9):
        leave_record(store, "train", f"far{number}", {**node.values, "training.steps": 3000}, [100.0])
    cost = Estimator(plan, store, local()).cost(node)
    assert cost.seconds == pytest.approx(12.0)
    assert cost.records == 5


def test_records_of_the_same_place_come_first(plan_of: Planner, store: Store) -> None:
    plan = plan_of(SMALL)
    node = train_node(plan)
    leave_record(store, "train", "there", node.values, [7.0], slurm={"job": "12"}, cuda=1)
    assert Estimator(plan, store, Site("local", 2, lambda _stage: 1)).cost(node).origin == ELSEWHERE
    leave_record(store, "train", "here", node.values, [70.0])
    assert Estimator(plan, store, local()).cost(node).seconds == pytest.approx(70)
    cost = Estimator(plan, store, Site("site", 4, lambda _stage: 1)).cost(node)
    assert (cost.seconds, cost.origin) == (pytest.approx(7), RECORDS)


def test_several_processes_share_the_time_of_a_training(plan_of: Planner, store: Store) -> None:
    """One start is 10 s; 4 of them and 40 s of work make the record."""
    plan = plan_of(SMALL)
    node = train_node(plan)
    alone, four = local(), Site("site", 4, lambda _stage: 4, lambda node: 4 if node.stage == "train" else 1)
    guess = [Estimator(plan, store, site).cost(node) for site in (alone, replace(four, gpus=alone.gpus))]
    assert [cost.origin for cost in guess] == [MODEL, MODEL]
    assert (guess[0].seconds - STARTUP_S) / (guess[1].seconds - STARTUP_S) == pytest.approx(4)
    leave_record(store, "train", "two", node.values, [25.0, 15.0], processes=2)
    leave_record(store, "train", "gpu", node.values, [25.0, 15.0], processes=2, cuda=1)
    assert Estimator(plan, store, alone).cost(node).seconds == pytest.approx(10 + 40)
    assert Estimator(plan, store, four).cost(node).seconds == pytest.approx(10 + 40 / 4)
    training = estimate(plan, store, dict.fromkeys(plan.nodes, "new"), four)["stages"]["train"]
    assert training["gpu_hours"] == pytest.approx(training["left"] * 20 * 4 / 3600)


def test_damaged_and_unfinished_records_are_passed_over(plan_of: Planner, store: Store) -> None:
    plan = plan_of(SMALL)
    node = train_node(plan)
    leave_record(store, "train", "unfinished", node.values, [1.0])
    (store.artefact("train", "unfinished") / "record.json").unlink()
    leave_record(store, "train", "old", {"training.steps": 3}, [1.0])
    leave_record(store, "train", "renamed", {**node.values, "loss.name": "dpo_of_old"}, [1.0])
    leave_record(store, "train", "other field", {**node.values, "loss.of_old": 1}, [1.0])
    leave_record(store, "train", "silent", node.values, [])
    (store.attempts("train", "empty")).mkdir(parents=True)
    leave_record(store, "train", "torn", node.values, [1.0])
    (store.attempts("train", "torn") / "1" / "exit.json").write_text("{")
    assert Estimator(plan, store, local()).cost(node).origin == MODEL


def test_only_the_newest_records_are_read(plan_of: Planner, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(SMALL)
    node = train_node(plan)
    for number in range(60):
        leave_record(store, "train", f"k{number}", node.values, [float(number)])
        os.utime(store.attempts("train", f"k{number}"), (number, number))
    read: list[Path] = []
    genuine = timings.read_json
    monkeypatch.setattr(timings, "read_json", lambda path: read.append(path) or genuine(path))
    newest = timings.read_timings(store, "train", Counts({}))
    assert sorted(timing.seconds for timing in newest) == [float(number) for number in range(36, 60)]
    assert len(read) == 2 * timings.MOST_READ


@pytest.mark.slow
def test_what_a_real_run_left_is_used(plan_of: Planner, store: Store, fake_log: Path) -> None:
    run_plan(plan_of(SMALL), store)
    plan = plan_of(SMALL.replace("seeds: [0]", "seeds: [0, 1]"), "more")
    costs = estimate(plan, store, states(store, plan.nodes), local())
    assert {stage: kind["from"] for stage, kind in costs["stages"].items()} == {
        stage: {RECORDS: costs["stages"][stage]["left"] or plan.unique[stage]} for stage in plan.unique
    }
    assert 0 < costs["hours"] < 1
    assert costs["disk_bytes"] > 5_000
    assert costs["stages"]["score"]["left"] == 0


def test_totals_and_what_sharing_saves(plan_of: Planner, store: Store) -> None:
    plan = plan_of(SMALL)  # product, difference, random, base
    nodes = list(plan.nodes.values())
    for number, node in enumerate(nodes):
        leave_record(store, node.stage, f"r{number}", node.values, [100.0], cuda=1 if node.stage == "train" else None)
    costs = estimate(
        plan, store, dict.fromkeys(plan.nodes, "new"), Site("site", 1000, lambda stage: int(stage == "train"))
    )
    assert costs["hours"] == pytest.approx(len(nodes) / 36)
    assert costs["gpu_hours"] == pytest.approx(3 / 36)
    naive = sum(len(cell.stages) for cell in plan.cells) - 2 + 3 * 2
    """The base model's images and scores belong to each of the three comparisons."""
    assert costs["saved_hours"] == pytest.approx((naive - len(nodes)) / 36)
    assert costs["saved_share"] == pytest.approx(1 - len(nodes) / naive)
    assert costs["wall_clock_seconds"] == pytest.approx(500), "score, select, train, generate, evaluate"
    for number, node in enumerate(nodes):
        leave_record(store, node.stage, f"r{number}", node.values, [100.0])
    half = {key: "done" if node.stage in ("score", "select", "encode") else "new" for key, node in plan.nodes.items()}
    assert estimate(plan, store, half, local(1))["wall_clock_seconds"] == pytest.approx((3 + 4 + 4) * 100)


def test_a_running_stage_counts_by_what_is_left_of_it(plan_of: Planner, store: Store) -> None:
    plan = plan_of(SMALL)
    node = train_node(plan)
    leave_record(store, "train", "past", node.values, [100.0])
    report = {"done": 3, "total": 4, "unit": "steps", "seconds": 9.0, "per_second": 0.3}
    write_json(store.attempts("train", node.key) / "1" / "progress.json", report)
    costs = estimate(plan, store, {key: "running" if key == node.key else "done" for key in plan.nodes}, local())
    assert costs["wall_clock_seconds"] == pytest.approx(25)


def test_plan_prints_and_gives_the_estimate(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (assets / "experiments" / "clusters").mkdir()
    (assets / "experiments" / "clusters" / "site.yaml").write_text(CLUSTER)
    assert ablate("plan", "good", "--json", "--parallel", "1") == 0
    one = json.loads(capsys.readouterr().out)["estimate"]
    assert one["wall_clock_seconds"] == pytest.approx(3600 * one["hours"])
    assert {origin for kind in one["stages"].values() for origin in kind["from"]} == {MODEL}
    assert ablate("plan", "good", "--json", "--cluster", "site") == 0
    there = json.loads(capsys.readouterr().out)["estimate"]
    assert (there["place"], there["parallel"]) == ("site", 8)
    assert there["stages"]["train"]["gpu_hours"] == pytest.approx(2 * there["stages"]["train"]["hours"])
    assert there["stages"]["select"]["gpu_hours"] == 0
    assert there["wall_clock_seconds"] < 3600 * there["hours"]
    assert ablate("plan", "good", "--cluster", "site", "--parallel", "3") == 0
    text = capsys.readouterr().out
    assert "with 3 at a time on site" in text
    assert "'model': no comparable run recorded" in text
    assert ablate("plan", "good", "--cluster", "sight") == 2
    assert "unknown cluster 'sight'" in capsys.readouterr().err


def test_the_model_grows_with_work(assets: Path) -> None:
    from ablations.cost.model_estimate import Machine, modelled_seconds

    values = FLAT | {"model.path": "m", "training.steps": 100, "training.pairs_per_step": 16}
    slow, fast = Machine(gpu=False), Machine(gpu=True)
    for stage in ("data", "encode", "train", "generate"):
        assert modelled_seconds(stage, values, 2000, slow) > modelled_seconds(stage, values, 1000, slow) > 0
        assert modelled_seconds(stage, values, 10**6, fast) <= modelled_seconds(stage, values, 10**6, slow)
    one = values | {"reward.model": "clip_emoji"}
    two = values | {"reward.model": "ensemble", "reward.members": ["clip_emoji", "clip_emoji"]}
    assert modelled_seconds("score", two, 1000, slow) > modelled_seconds("score", one, 1000, slow)
    bf16 = values | {"training.precision": "bf16"}
    assert modelled_seconds("train", bf16, 10**6, fast) < modelled_seconds("train", values, 10**6, fast)
    hours = modelled_seconds("train", values | {"training.micro_batch": 16}, 32_000 * DPO, fast) / 3600
    assert 0.5 < hours < 5, "SD1.5 at 512 px, 32,000 pairs in fp32 on one data-centre GPU"
