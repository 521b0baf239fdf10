"""``-s name=value`` on the command line: checked as in a file, and never mixed with the sweep's own results."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from ablations.grid.settings import options, typed, variant, with_settings
from ablations.grid.spec import read_sweep
from ablations.planning.plan import Plan, make_plan
from ablations.running import finalize
from ablations.slurm.resubmit import planned_again
from ablations.store.artefacts import Store
from ablations.store.variants import variants, variants_note
from qsd.config.assignments import assignments
from qsd.errors import UserError
from tests.ablations import fake_stages
from tests.ablations.command import ablate
from tests.ablations.conftest import SWEEP


def plan_with(*settings: str, text: str = SWEEP) -> Plan:
    path = Path("sweeps/good.yaml")
    path.write_text(text)
    return make_plan(with_settings(read_sweep(path), assignments(settings)), fake_stages)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.stepz=5", "--set training.stepz=5: unknown key 'training.stepz' (did you mean 'training.steps'?)"),
        ("training.steps=0", "--set training.steps=0: training.steps must be at least 1"),
        ("training.steps=many", "training.steps must be a whole number, not 'many'"),
        ("loss.name=dpoo", "unknown loss 'dpoo' (did you mean 'dpo'?)"),
        ("lora.rank=010", "lora.rank must be a whole number, not 010 (write 10, or put it in quotes"),
        ("quality.metric=ratio", "--set quality.metric=ratio: sweeps/good.yaml: 'quality.metric' is an axis"),
        ("seed=1", "the seed is given by 'seeds'"),
        ("adapter=none", "the base model is always a cell"),
        ("training.steps", "write it as dotted.name=value"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "run", "table"])
def test_a_wrong_setting_is_refused_in_every_command(
    command: str, setting: str, message: str, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate(command, "good", "-s", setting) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (world / "runs").exists()


def test_settings_stand_above_the_overrides_of_the_file_and_below_controls(world: Path) -> None:
    text = SWEEP.replace("controls:\n", "controls:\n  - {lora.rank: 64}\n") + "overrides: {lora.rank: 4, seed: 1}\n"
    plan = plan_with("lora.rank=16", "training.micro_batch=2", text=text.replace(", seed: 1", ""))
    ranks = {cell.values["lora.rank"] for cell in plan.cells if cell.role == "grid"}
    assert ranks == {16}
    assert {cell.values["lora.rank"] for cell in plan.cells if cell.role == "control"} == {16, 64}
    assert {cell.values["training.micro_batch"] for cell in plan.cells} == {2}


def test_what_changes_results_has_a_folder_of_its_own(world: Path) -> None:
    own = plan_with()
    changed = plan_with("training.steps=7", "lora.rank=16")
    assert changed.name == "good@tiny+lora.rank=16,training.steps=7"
    assert changed.settings == {"lora.rank": 16, "training.steps": 7}
    assert not {cell.cell_id for cell in own.cells if cell.seed is not None} & {c.cell_id for c in changed.cells}
    assert plan_with("training.steps=7").name != plan_with("training.steps=8").name


@pytest.mark.parametrize("setting", ["training.steps=3", "training.micro_batch=2", "device=cpu"])
def test_what_changes_no_result_has_the_sweep_s_own_folder(setting: str, world: Path) -> None:
    plan = plan_with(setting)
    assert plan.name == "good@tiny"
    assert [cell.cell_id for cell in plan.cells] == [cell.cell_id for cell in plan_with().cells]


def test_names_of_folders_are_one_to_one() -> None:
    cases: list[dict[str, Any]] = [
        {},
        {"lora.rank": 4},
        {"lora.rank": 8},
        {"lora.alpha": None},
        {"data.path": "null"},
        {"data.path": "a/b"},
        {"data.path": "a,lora.rank=4"},
        {"data.path": "a", "lora.rank": 4},
        {"lora.targets": ["to_q"]},
        {"lora.targets": ["to_q", "to_k"]},
        {"data.path": "x" * 100},
        {"data.path": "x" * 101},
    ]
    names = [variant("emoji", case) for case in cases]
    assert len(set(names)) == len(names)
    assert not any("/" in name or " " in name or "[" in name for name in names)
    assert all(len(name) < 100 for name in names)


@pytest.mark.parametrize(
    "settings",
    [
        {"training.steps": 5, "training.learning_rate": 1e-05},
        {"lora.targets": ["to_q", "to_out.0"]},
        {"data.path": "a folder/it's: 5 #1"},
        {"data.path": "null"},
        {"lora.alpha": None},
        {"training.flip": True},
        {"data.path": "12"},
    ],
)
def test_the_options_that_a_message_shows_give_the_same_settings(settings: dict[str, Any]) -> None:
    words = shlex.split(options(settings))
    assert words[::2] == ["-s"] * len(settings)
    assert assignments(words[1::2]) == settings


def test_results_with_other_settings_are_never_read_as_the_sweep_s_own(
    world: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = plan_with("training.steps=7")
    folder = finalize.write_cells(changed, store, None)
    content = json.loads((folder / "cells.json").read_text())
    assert content["settings"] == {"training.steps": 7}
    assert content["experiment"] == "tiny+training.steps=7"
    own = plan_with()
    assert not store.sweep(own.name).exists()
    assert variants(store, own) == [{"training.steps": 7}]
    note = variants_note(store, own)
    assert note == "note: good was also run with -s training.steps=7; use the same options to see that run"
    assert variants_note(store, changed) is None
    with pytest.raises(UserError, match=r"'ablate run good -s training\.steps=7' evaluates them"):
        finalize.write_cells(changed, store, None, least=1)


def test_a_launch_is_planned_again_with_its_settings(world: Path) -> None:
    plan = plan_with("training.steps=7", "training.micro_batch=2")
    settings = dict(plan.sweep.settings)
    arguments = {"name": "good", "experiment": None, "seeds": None, "table": fake_stages.HERE}
    again, _ = planned_again(Path("runs"), json.loads(json.dumps({**arguments, "settings": settings})))
    assert again.name == plan.name
    assert list(again.nodes) == list(plan.nodes)
    assert {cell.values["training.micro_batch"] for cell in again.cells} == {2}
    assert planned_again(Path("runs"), arguments)[0].name == "good@tiny"  # a launch of an earlier version
    assert typed(again.sweep) == "good -s training.steps=7 -s training.micro_batch=2"


def test_the_files_of_an_experiment_are_recorded_and_shown(world: Path, store: Store) -> None:
    (world / "experiments" / "child.yaml").write_text("extends: tiny\nlora.rank: 2\n")
    plan = plan_with(text=SWEEP.replace("experiment: tiny", "experiment: child"))
    assert [str(path) for path in plan.files] == ["experiments/child.yaml", "experiments/tiny.yaml"]
    content = json.loads((finalize.write_cells(plan, store, None) / "cells.json").read_text())
    digests = content["experiment_files"]
    assert list(digests) == ["experiments/child.yaml", "experiments/tiny.yaml"]
    (world / "experiments" / "tiny.yaml").write_text((world / "experiments" / "tiny.yaml").read_text() + "# more\n")
    later = json.loads((finalize.write_cells(plan, store, None) / "cells.json").read_text())["experiment_files"]
    assert [later[name] == digests[name] for name in digests] == [True, False]
