"""What goes out with an adapter: facts in its file, a model card beside it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from safetensors import safe_open

from qsd.adapters.card import write_card
from qsd.adapters.facts import AdapterFacts, TrainingFacts
from qsd.config.digest import location_digest
from qsd.encoding.store import EncodedPairs
from qsd.errors import UserError
from qsd.stages.train import run as train
from qsd.stages.train.run import cell_settings
from qsd.training.offpolicy.summary import facts_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.qsd.tiny_stages import TinyStages

FACTS = AdapterFacts(
    base_model="stabilityai/stable-diffusion-xl-base-1.0@462165984030d82259a11f4367a4eed129e94a7b",
    pipeline="StableDiffusionXLPipeline",
    settings={"lora.rank": 4, "quality.metric": "difference", "training.learning_rate": 1e-5},
    seed=3,
    training=TrainingFacts(metadata={}, tags=(), results=(), data="", digests={}),
    kohya_readers="some programs",
)
SUMMARY = {
    "loss": "dpo",
    "beta": 5000.0,
    "effective_beta": 2500.0,
    "steps": 2,
    "pairs": 12,
    "pairs_seen": 8,
    "epochs": 8 / 12,
    "trainable_parameters": 100,
    "last_steps": 2,
    "mean_of_last_steps": {"implicit_accuracy": 0.625},
}


def card_of(world: TinyStages, folder: Path, summary: dict[str, Any] = SUMMARY, **settings: Any) -> str:
    """The card of a training on pairs."""
    config = world.config(**settings)
    settings = {**FACTS.settings, **cell_settings(config)}
    training = facts_of(config, world.artefacts, settings, summary)
    return write_card(folder, replace(FACTS, settings=settings, training=training)).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def trained(world: TinyStages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapter of a cell with two settings of its own."""
    settings = {"lora__rank": 3, "quality__metric": "difference", "data__labels": "simulated", "seed": 7}
    return world.run(train, tmp_path_factory.mktemp("card"), **settings) / "adapter"


def front_matter(card: str) -> dict[str, Any]:
    """What a hub reads of a model card."""
    assert card.startswith("---\n")
    front: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return front


def metadata(folder: Path) -> dict[str, str]:
    with safe_open(folder / "pytorch_lora_weights.safetensors", framework="pt") as stored:
        return dict(stored.metadata())


@pytest.mark.slow
def test_the_file_says_where_it_comes_from(world: TinyStages, trained: Path) -> None:
    facts = metadata(trained)
    digests = {
        "qsd.data_digest": world.artefacts["data"] / "pairs.parquet",
        "qsd.selection_digest": world.artefacts["select"] / "selected.parquet",
    }
    for name, file in digests.items():
        assert facts[name] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert facts["qsd.base_model"] == f"folder:{location_digest(str(world.root / 'model'))}"
    assert facts["qsd.pipeline"] == "StableDiffusionPipeline"
    assert facts["qsd.labels"] == "simulated"
    assert facts["qsd.seed"] == "7"
    assert "licence of the base model applies" in facts["qsd.licence"]
    cell = json.loads(facts["qsd.cell"])
    assert cell["lora.rank"] == 3
    assert cell["quality.metric"] == "difference", "settings of stages before the training belong to the cell"
    assert "generation.steps" not in cell, "what comes after the training does not"
    assert "lora.alpha" not in cell, "defaults are left out"
    assert {"format", "lora_adapter_metadata"} <= set(facts), "what diffusers needs is still there"


@pytest.mark.slow
def test_no_path_and_no_time_goes_out(world: TinyStages, trained: Path) -> None:
    card = (trained / "README.md").read_text(encoding="utf-8")
    for text in (card, json.dumps(metadata(trained))):
        assert str(world.root) not in text
        assert "/tmp" not in text
        assert not re.search(r"20\d\d-\d\d|\d\d:\d\d", text)


def test_the_card_of_simulated_labels_says_so(trained: Path) -> None:
    card = (trained / "README.md").read_text(encoding="utf-8")
    head = front_matter(card)
    assert "simulated-preferences" in head["tags"]
    assert "base_model" not in head, "a local folder is no name on the hub"
    assert "**The preference labels are simulated**" in card
    assert "| `lora.rank` | 3 |" in card
    assert "`kohya.safetensors` is the same adapter for programs of kohya's layout" in card
    assert (trained / "kohya.safetensors").is_file()
    assert "12 preference pairs" in card
    assert re.search(r"^- \d+ trained parameters$", card, re.MULTILINE)


def test_the_card_of_a_model_from_the_hub(world: TinyStages, tmp_path: Path) -> None:
    card = card_of(world, tmp_path, training__learning_rate=1e-5)
    assert front_matter(card) == {
        "base_model": "stabilityai/stable-diffusion-xl-base-1.0",
        "base_model_relation": "adapter",
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "license": "openrail++",
        "tags": ["lora", "text-to-image", "diffusion-dpo"],
    }
    assert "People said which image" in card
    assert "beta 5000: β/2 = 2500 multiplies the difference of mean errors" in card
    assert "Open RAIL++-M" in card
    assert "| `training.learning_rate` | 1e-05 |" in card
    assert "implicit accuracy on the training pairs of the last 2 steps: 0.625" in card
    code = card.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert 'from_pretrained("stabilityai/stable-diffusion-xl-base-1.0", revision="462165984' in code


def test_another_loss_is_not_called_dpo(world: TinyStages, tmp_path: Path) -> None:
    unused = {"beta": None, "effective_beta": None, "mean_of_last_steps": {"implicit_accuracy": None}}
    card = card_of(world, tmp_path, {**SUMMARY, "loss": "sft", **unused}, loss__name="sft")
    assert "diffusion-dpo" not in card
    assert "accuracy" not in card
    assert "beta" not in card


def test_flips_on_purpose_are_on_the_card(world: TinyStages, tmp_path: Path) -> None:
    assert cell_settings(world.config(data__flip_fraction=20.0))["data.flip_fraction"] == 20
    assert "20 % of the labels were then flipped on purpose" in card_of(world, tmp_path, data__flip_fraction=20.0)
    assert "flipped" not in card_of(world, tmp_path)


def test_a_column_that_leaves_rows_out_is_on_the_card(world: TinyStages, tmp_path: Path) -> None:
    text = "Only rows of the data whose column `follows` is true were used."
    assert text in card_of(world, tmp_path, data__only="follows")
    assert text[:20] not in card_of(world, tmp_path)


def test_settings_that_a_stage_does_not_read_are_no_part_of_the_cell(world: TinyStages) -> None:
    settings = cell_settings(world.config(loss__name="sft", loss__beta=7.0, selection__threshold=2.0))
    assert settings["loss.name"] == "sft"
    assert "loss.beta" not in settings
    assert "selection.threshold" not in settings
    assert list(settings) == sorted(settings)


def test_encodings_of_an_older_version_are_refused(world: TinyStages, tmp_path: Path) -> None:
    """They do not say which data they are of, so a card could not."""
    old = tmp_path / "encode"
    shutil.copytree(world.artefacts["encode"], old)
    summary = json.loads((old / "summary.json").read_text())
    del summary["data_digest"]
    (old / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match="an older version wrote it, so run the encode stage again"):
        EncodedPairs(old)
