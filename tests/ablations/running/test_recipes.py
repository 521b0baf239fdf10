"""The recipes for published models plan as soon as data, prompts and weights are there; no model is needed."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from qsd.rewards.scorers import REGISTRY
from tests.ablations.command import ablate
from tests.qsd.tiny_world import good_rows, write_rows

if TYPE_CHECKING:
    from pathlib import Path


PICKAPIC = ("sd15_pickapic", "sdxl_pickapic", "sd35m_pickapic", "flux_pickapic")
FILES = {
    "hps_v2.1": ["HPS_v2.1_compressed.pt"],
    "pickscore": ["model.safetensors"],
    "image_reward": ["ImageReward.pt", "vocab.txt"],
    "aesthetic_v2": ["aesthetic-model.pth"],
    "clip_score": ["model.safetensors"],
}
"""The published files that each folder of weights needs."""


@pytest.fixture
def place(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with the recipes, forty pairs, the benchmark's prompts and something for every scorer."""
    for folder in ("experiments", "sweeps"):
        (tmp_path / folder).mkdir()
    shutil.copytree(root / "experiments" / "prompts", tmp_path / "experiments" / "prompts")
    shutil.copy(root / "sweeps" / "tailorpo_animals.yaml", tmp_path / "sweeps")
    for name in (*PICKAPIC, "sd15_tailorpo_animals"):
        shutil.copy(root / "experiments" / f"{name}.yaml", tmp_path / "experiments")
    (tmp_path / "data" / "pickapic_v2" / "train").mkdir(parents=True)
    write_rows(tmp_path / "data" / "pickapic_v2" / "train" / "train-00000-of-00001.parquet", good_rows(40))
    prompts = tmp_path / "data" / "hpd_v2" / "benchmark"
    prompts.mkdir(parents=True)
    for style in ("anime", "concept-art", "paintings", "photo"):
        (prompts / f"{style}.json").write_text(json.dumps([f"{style} {number}" for number in range(250)]))
    for scorer in ("hps_v2.1", "pickscore", "image_reward", "aesthetic_v2", "clip_score"):
        for folder in REGISTRY.get(scorer).folders:
            (tmp_path / "weights" / folder).mkdir(parents=True, exist_ok=True)
            for name in FILES[folder]:
                (tmp_path / "weights" / folder / name).write_text(scorer)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", PICKAPIC)
def test_a_recipe_plans(place: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "sweeps" / "formula.yaml").write_text(
        f"question: Which?\nexperiment: {name}\naxes: {{quality.metric: [product, difference]}}\n"
        "baseline: {quality.metric: product}\nseeds: [0, 1]\n"
    )
    assert ablate("plan", "formula", "--json", "--runs", str(place / "runs")) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    unique = {stage: entry["unique"] for stage, entry in stages.items()}
    assert unique == {"data": 1, "score": 1, "select": 2, "encode": 2, "train": 4, "generate": 5, "evaluate": 5}


def test_the_on_policy_recipe_plans(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own sweep: no pairs anywhere, the reward is marked, and the training prompts are apart from the others."""
    assert ablate("plan", "tailorpo_animals", "--json", "--runs", str(place / "runs")) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert {stage: entry["unique"] for stage, entry in stages.items()} == {"train": 15, "generate": 16, "evaluate": 16}
    assert ablate("explain", "tailorpo_animals", "method=tailorpo_g", "--runs", str(place / "runs")) == 0
