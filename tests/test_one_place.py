"""What is added in one place works everywhere: a loss with a setting in one file, a kind of stage in one folder.

Each is added to a copy of the project, of which nothing else is edited, and used there by a process of its own.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.qsd import tiny_stages


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project's code, with its sweeps and its experiments."""
    folder = tmp_path / "project"
    for name in ("qsd", "ablations", "analysis"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("experiments", "sweeps"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def results(folder: Path, script: str) -> Any:
    """What a script prints as JSON."""
    done = run(folder, "-c", script)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


LOSS = '''\
"""DPO whose late timesteps count less."""

from __future__ import annotations

from dataclasses import dataclass

from qsd.config.fields import meaning
from qsd.losses import Beta, Loss, PairErrors, half_beta


@dataclass
class Settings(Beta):
    """How fast the weight falls."""

    fading: float = meaning(0.5, "power of the share of timesteps that are left", above=0, most=9)


def fading_dpo(errors, settings: Settings):
    from torch.nn.functional import softplus

    left = 1 - errors.timesteps.float() / 1000
    return left**settings.fading * softplus(-half_beta(settings) * errors.logits)


LOSS = Loss(fading_dpo, Settings, factor=half_beta)
'''

SWEEP = """\
question: Does it matter how fast the weight falls?
experiment: emoji
overrides: {loss.name: fading_dpo}
axes:
  loss.fading: [0.5, 2, VALUE]
baseline: {loss.fading: 0.5}
seeds: [0]
"""

CELLS = """
import json
from pathlib import Path
from ablations.grid.spec import read_sweep
from ablations.planning.plan import make_plan
from qsd.stages import spec
plan = make_plan(read_sweep(Path("own.yaml")), spec)
meanings = [cell.stages["train"].meaning for cell in plan.cells if "train" in cell.stages]
names = ("loss.name", "loss.fading", "loss.mapo_scale")
print(json.dumps([{name: each.get(name) for name in names} for each in meanings]))
"""


@pytest.fixture
def own_loss(copy: Path) -> Path:
    (copy / "qsd/losses/fading_dpo.py").write_text(LOSS)
    return copy


@pytest.mark.slow
def test_a_loss_with_a_setting_is_one_file_and_its_setting_an_axis(own_loss: Path) -> None:
    (own_loss / "own.yaml").write_text(SWEEP.replace("VALUE", "3"))
    cells = results(own_loss, CELLS)
    assert [cell["loss.fading"] for cell in cells] == [None, 2.0, 3.0], "the default is no part of a meaning"
    assert {cell["loss.name"] for cell in cells} == {"fading_dpo"}
    assert {cell["loss.mapo_scale"] for cell in cells} == {None}, "another loss's setting"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            SWEEP.splitlines()[4].replace("VALUE", "10"),
            "own.yaml:5:25: loss.fading must be above 0 and at most 9, not 10",
        ),
        ("  loss.fadin: [1]", "own.yaml:5:3: unknown axis 'loss.fadin' (did you mean 'loss.fading'?)"),
    ],
)
def test_a_mistake_in_the_setting_is_refused_with_its_place(own_loss: Path, line: str, message: str) -> None:
    lines = SWEEP.splitlines()
    lines[4] = line
    (own_loss / "own.yaml").write_text("\n".join(lines))
    done = run(own_loss, "-c", "from ablations.cli import main; main()", "plan", "own.yaml")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_loss_with_a_setting_trains(own_loss: Path, tmp_path: Path) -> None:
    """The first step of a fresh adapter has the loss log 2, but for the weight; which is that of the setting given."""
    world = tiny_stages.make(tmp_path / "world")
    settings = {
        "model.path": world.root / "model",
        "model.resolution": tiny_stages.tiny_pipeline.RESOLUTION,
        "loss.name": "fading_dpo",
        "loss.fading": 9,
        "lora.targets": "[to_q]",
        "training.steps": 1,
        "training.pairs_per_step": 4,
        "training.warmup_steps": 0,
    }
    given = [part for name, value in settings.items() for part in ("-s", f"{name}={value}")]
    inputs = [part for name in ("select", "encode") for part in ("-i", f"{name}={world.artefacts[name]}")]
    command = ("-c", "from qsd.cli import main; main()", "train", "-e", "experiments/emoji.yaml", "-o", "out")
    done = run(own_loss, *command, *inputs, *given)
    assert done.returncode == 0, done.stderr
    (row,) = (json.loads(line) for line in (own_loss / "out/metrics.jsonl").read_text().splitlines())
    assert 0 < row["loss"] < 0.9 * math.log(2) / 2, "with the default of 0.5 it is about two thirds of log 2"


STAGE = '''\
"""Stage caption: describes the generated images."""

from qsd.stages.stage_spec import BatchField, Rehearsal, StageCost, StageSpec, Work, always

STAGE = StageSpec(
    help="Describe the generated images.",
    entry="qsd.stages.caption.run:run",
    reads=lambda _values: ("generation.steps", "evaluation.batch_size"),
    inputs=("generate",),
    wanted=always,
    cost=StageCost(work=lambda values, counts: Work(7 * counts.images(values), "captions", 1)),
    rehearsal=Rehearsal(shape=("evaluation.batch_size",), settings={"generation.seed": 5}),
    batch=BatchField("evaluation.batch_size"),
)
'''

PLANNED = """
import json
from dataclasses import replace
from pathlib import Path
from ablations.planning.dry_plan import dry_plan, shape
from ablations.cost.estimate import Site, estimate
from ablations.cost.workload import Counts, work_of
from ablations.grid.spec import read_sweep
from ablations.planning.plan import make_plan, summary
from ablations.recovery.failures import Failed
from ablations.recovery.retry import RetryPlan, halve_batches
from ablations.running import execution_overrides
from ablations.running.cell_states import with_states
from ablations.store.artefacts import Store
from ablations.store.states import states
from qsd.stages import spec

plan = make_plan(read_sweep(Path("sweeps/demo.yaml")), spec)
store = Store(Path("runs"), spec.key_of)
nodes = [node for node in plan.nodes.values() if node.stage == "caption"]
node, trained = nodes[0], plan.cells[0]
seen = states(store, plan.nodes)
work = work_of("caption", node.values, Counts({}))
failed = Failed(node, "cuda-oom", "", "out of memory", None, None, None)
store.is_done = lambda stage, key: stage == "evaluate"
print(json.dumps({
    "order": list(plan.order),
    "of a cell": list(trained.stages),
    "cells": len(plan.cells),
    "keys": sorted({node.key for node in nodes}),
    "meaning": dict(node.meaning),
    "inputs": list(node.inputs),
    "other steps": spec.stage_meaning("caption", {**node.values, "generation.steps": 3}),
    "summary": summary(plan, seen)["stages"]["caption"]["unique"],
    "work": [work.amount, work.unit],
    "images": work_of("generate", node.values, Counts({})).output_size,
    "estimate": estimate(plan, store, seen, Site("local", 1, lambda _stage: 0))["stages"]["caption"],
    "shape": shape("caption", node.values, spec),
    "rehearsed": sorted({cell.values["generation.seed"] for cell in dry_plan(plan, spec).cells}),
    "retry": halve_batches(store, RetryPlan((failed,), frozenset(), 0)),
    "halved": execution_overrides.read(store, "caption", node.key),
    "evaluated only": with_states(store, [{"stages": {"evaluate": "a", "caption": "b"}}])[0]["state"],
}))
"""


@pytest.mark.slow
def test_a_kind_of_stage_is_one_folder(copy: Path) -> None:
    (copy / "qsd/stages/caption").mkdir()
    (copy / "qsd/stages/caption/spec.py").write_text(STAGE)
    seen = results(copy, PLANNED)
    assert seen["order"] == ["data", "score", "select", "encode", "train", "generate", "caption", "evaluate"]
    assert "caption" in seen["of a cell"]
    assert (len(seen["keys"]), seen["summary"]) == (seen["cells"], seen["cells"]), "one for each cell's images"
    assert all(len(key) == 32 for key in seen["keys"])
    assert seen["inputs"] == ["generate"]
    assert (seen["meaning"], seen["other steps"]) == ({"generation.steps": 20}, {"generation.steps": 3})
    assert seen["work"] == [7 * seen["images"], "captions"]
    assert (seen["estimate"]["left"], seen["estimate"]["from"]) == (seen["cells"], {"model": seen["cells"]})
    assert seen["shape"] == ["caption", 256]
    assert seen["rehearsed"] == [5]
    (line,) = seen["retry"]
    assert line.endswith("evaluation.batch_size 256 -> 128")
    assert seen["halved"] == {"evaluation.batch_size": 128}
    assert seen["evaluated only"] == "unfinished"
    assert "Describe the generated images." in run(copy, "-m", "qsd.cli", "--help").stdout


@pytest.mark.slow
def test_a_stage_with_an_unknown_input_is_refused(copy: Path) -> None:
    (copy / "qsd/stages/caption").mkdir()
    (copy / "qsd/stages/caption/spec.py").write_text(STAGE.replace('("generate",)', '("generat",)'))
    done = run(copy, "-c", "from qsd.stages import spec")
    assert "stage 'caption' has an input 'generat', which is no stage (did you mean 'generate'?)" in done.stderr
