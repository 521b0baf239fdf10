"""Differences of two cells: configuration, stages, and what the attempts say of code and machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ablations.files import read_json, write_json
from ablations.planning.cells import find_cell
from ablations.planning.diff import diff, print_diff
from ablations.planning.plan import Plan
from ablations.store.artefacts import Store
from ablations.store.attempts import latest
from tests.ablations.command import ablate
from tests.ablations.conftest import Planner
from tests.ablations.local_run import run_plan

TEXT = """\
question: q
experiment: tiny
axes: {lora.rank: [4, 8], selection.threshold: [0, 1]}
exclude: [{lora.rank: 8, selection.threshold: 0}]
controls: [{selection.strategy: random}, {selection.strategy: threshold}]   # the latter reads the threshold
baseline: {lora.rank: 4, selection.threshold: 0}
seeds: [0]
"""


def rewrite(store: Store, plan: Plan, cell: str, stage: str, **changes: Any) -> None:
    folder = latest(store, stage, find_cell(plan, cell).stages[stage].key)
    assert folder is not None
    about = read_json(folder / "attempt.json")
    assert about is not None
    write_json(folder / "attempt.json", about | changes)


@pytest.mark.slow
def test_configuration_stages_code_and_machines(
    plan_of: Planner, store: Store, fake_log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(TEXT)
    run_plan(plan, store)
    names = list(dict.fromkeys(cell.name for cell in plan.cells))
    four, eight = names[0], names[1]
    versions = {"python": "3.11.0", "torch": "2.9.0"}
    rewrite(store, plan, four, "train", git={"commit": "a" * 40, "dirty": False}, versions=versions)
    rewrite(
        store,
        plan,
        eight,
        "train",
        git={"commit": "a" * 40, "dirty": True, "untracked": {"qsd/own.py": "01ab"}},
        versions=versions | {"torch": "2.10.0"},
        snapshot="0123",
        adjusted={"training.micro_batch": 2},
        environment={"OMP_NUM_THREADS": "4", "SLURM_JOB_ID": "77"},
    )
    differences = diff(find_cell(plan, four), find_cell(plan, eight), store)
    assert differences["config"] == [
        {"field": "lora.rank", "left": 4, "right": 8, "read_by": ["train"]},
        {"field": "selection.threshold", "left": 0.0, "right": 1.0, "read_by": []},
    ]
    stages = {entry["stage"]: entry for entry in differences["stages"]}
    assert stages["score"]["left"] == stages["score"]["right"]
    assert (stages["train"]["fields"], stages["train"]["inputs"]) == (["lora.rank"], [])
    assert (stages["generate"]["fields"], stages["generate"]["inputs"]) == ([], ["train"])
    seen = {
        entry["what"]: (entry["left"], entry["right"])
        for entry in differences["attempts"]
        if "train" in entry["stages"]
    }
    assert seen["commit"] == ("aaaaaaaaaaaa", "aaaaaaaaaaaa with changes")
    assert seen["untracked qsd/own.py"] == ("-", "01ab")
    assert seen["torch"] == ("2.9.0", "2.10.0")
    assert seen["snapshot"] == ("-", "0123")
    assert seen["adjusted training.micro_batch"] == ("-", "2")
    assert seen["$OMP_NUM_THREADS"][1] == "4"
    assert "$SLURM_JOB_ID" not in seen
    assert "python" not in seen
    assert differences["missing"] == {}
    print_diff(json.loads(json.dumps(differences)))
    output = capsys.readouterr().out
    assert "lora.rank: 4 | 8  (read by train)" in output
    assert "selection.threshold: 0 | 1  (no stage of these cells reads it)" in output
    assert "torch: 2.9.0 | 2.10.0  (train)" in output


@pytest.mark.slow
def test_a_cell_is_no_different_from_itself(plan_of: Planner, store: Store, fake_log: Path) -> None:
    plan = plan_of(TEXT)
    run_plan(plan, store)
    cell = find_cell(plan, None)
    differences = diff(cell, cell, store)
    assert (differences["config"], differences["attempts"], differences["missing"]) == ([], [], {})
    assert all(entry["left"] == entry["right"] for entry in differences["stages"])


def test_the_command_before_any_run(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate("diff", "good", "metric=product seed 0", "strategy=random seed 1") == 0
    output = capsys.readouterr().out
    assert "seed: 0 | 1  (read by select, train)" in output
    assert "selection.strategy: top_k | random  (read by select)" in output
    assert "| -" in output, "a random selection has no scores"
    assert "strategy=random seed 1: no attempt in this store at data, select, " in output
    assert ablate("diff", "good", "metric=product", "base", "--json") == 0
    differences = json.loads(capsys.readouterr().out)
    assert [entry["field"] for entry in differences["config"]] == ["adapter"]
    assert ablate("diff", "good", "metric=product", "metric=prodct") == 2
    assert "unknown cell 'metric=prodct' (did you mean 'metric=product'?)" in capsys.readouterr().err
