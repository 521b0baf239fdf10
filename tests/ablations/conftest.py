"""A world of files for the grid's tests: an experiment, sweeps and a store in a temporary folder."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablations.grid.spec import read_sweep
from ablations.planning.plan import Plan, make_plan
from ablations.store.artefacts import Store
from qsd.models.families.stable_diffusion import FAMILY
from tests.ablations import fake_stages
from tests.conftest import ROOT

EXPERIMENT = """\
data: {path: world/pairs}
model: {path: world/model, resolution: 64}
reward: {model: clip_emoji, weights: world/scorers}
training: {steps: 3, pairs_per_step: 4, learning_rate: 1e-3}
evaluation: {prompts: world/prompts.csv, scorers: [clip_emoji, aesthetic_emoji]}
tracking: {wandb: disabled}
"""

SWEEP = """\
question: Does it matter?
experiment: tiny
axes:
  quality.metric: [product, difference, winner_only]
controls:
  - {selection.strategy: random}
baseline: {quality.metric: product}
seeds: [0, 1]
"""

SMALL = SWEEP.replace(", winner_only", "").replace("[0, 1]", "[0]")
"""Three cells and the base model: 16 stages."""
TWO_RANKS = "question: q\nexperiment: tiny\naxes: {lora.rank: [4, 8]}\nbaseline: {lora.rank: 4}\nseeds: [0]\n"

Planner = Callable[..., Plan]


PROMPTS = "prompt_id,caption,split\na,an apple,evaluation\nb,a bee,evaluation\nc,a cat,seen\n"


def write_assets(world: Path) -> None:
    """Files for every path that the experiment names, so that the project's own stage table can be used."""
    for name in ("pairs", "model/unet", "scorers/clip_emoji/weights", "scorers/aesthetic_emoji/weights", "prompts.csv"):
        path = world / "world" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PROMPTS if name == "prompts.csv" else name)


def write_model(folder: Path, parts: tuple[str, ...] = ("unet", "vae", "text_encoder")) -> None:
    """What a look at a diffusers folder looks for: settings, a tokenizer of one token, and weights of one number."""
    files: dict[str, Any] = {"model_index.json": {"_class_name": "StableDiffusionPipeline"}}
    for part in ("unet", "vae", "text_encoder", "scheduler"):
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        files[f"{part}/{name}"] = {
            setting: True if setting == "flip_sin_to_cos" else 1 for setting in FAMILY.required_settings(part)
        }
    files["tokenizer/tokenizer.json"] = {"model": {"type": "WordLevel", "vocab": {"a": 0}}}
    for place, content in files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(json.dumps(content))
    header = json.dumps({"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    for part in parts:
        (folder / part / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


def write_world(folder: Path) -> None:
    """An experiment and a sweep."""
    for name, text in (("experiments/tiny.yaml", EXPERIMENT), ("sweeps/good.yaml", SWEEP)):
        (folder / name).parent.mkdir()
        (folder / name).write_text(text)


def plan_text(text: str, name: str) -> Plan:
    """Plan a sweep given as text over the cheap stages, in the current folder."""
    path = Path("sweeps") / f"{name}.yaml"
    path.write_text(textwrap.dedent(text))
    return make_plan(read_sweep(path), fake_stages)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a test: ``experiments/tiny.yaml``, ``sweeps/`` and what the experiment's paths name."""
    monkeypatch.chdir(tmp_path)
    write_world(tmp_path)
    return tmp_path


@pytest.fixture
def plan_of(world: Path) -> Planner:
    """Plan a sweep given as text over the cheap stages."""

    def plan(text: str = SWEEP, name: str = "a") -> Plan:
        return plan_text(text, name)

    return plan


@pytest.fixture
def store(world: Path) -> Store:
    return Store(Path("runs"), fake_stages.key_of)


@pytest.fixture
def assets(world: Path) -> Path:
    """Files for every path that the experiment names, so that the project's own stage table can be used."""
    write_assets(world)
    return world


@pytest.fixture
def fake_log(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the cheap stages note what they do."""
    set_log(monkeypatch, world / "events")
    return world / "events"


def set_log(patch: pytest.MonkeyPatch, log: Path) -> None:
    """What processes of the cheap stages need."""
    patch.setenv("FAKE_LOG", str(log))
    patch.setenv("PYTHONPATH", str(ROOT))
