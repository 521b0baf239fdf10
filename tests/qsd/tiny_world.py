"""A preference data set of a few rows and reward models with random weights: seconds on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from qsd.config.load import build, defaults, override
from qsd.rewards import aesthetic, clip
from qsd.rewards.preprocess import Preprocess
from qsd.runtime import StageContext, silent
from scripts.synthetic.pairs import SIZE, good_rows, picture, write_rows
from tests.qsd.tiny_pipeline import tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from qsd.config.schema import ExperimentConfig
    from qsd.runtime import Report

__all__ = [
    "REQUIRED",
    "SIZE",
    "clip_config",
    "config",
    "context",
    "good_rows",
    "picture",
    "write_clip",
    "write_rewards",
    "write_rows",
]

REQUIRED = {
    "model.path": "model",
    "evaluation.prompts": "prompts.csv",
    "evaluation.scorers": ["judge_emoji"],
    "training.steps": 1,
    "training.pairs_per_step": 1,
    "training.learning_rate": 1e-3,
    "reward.model": "clip_emoji",
}


def clip_config(image_tower: dict[str, Any] | None = None) -> dict[str, Any]:
    """An open_clip configuration of the smallest size over the byte tokenizer."""
    words = tokenizer()
    return {
        "embed_dim": 8,
        "vision_cfg": {
            "image_size": SIZE,
            **(image_tower or {"layers": 1, "width": 16, "head_width": 8, "patch_size": 16}),
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": len(words),
            "width": 16,
            "heads": 2,
            "layers": 1,
            "pool_type": "eos",
            "eos_id": words.eos_token_id,
        },
    }


def write_clip(folder: Path, seed: int, resize: str = "shortest", image_tower: dict[str, Any] | None = None) -> Path:
    """A CLIP scorer with random weights."""
    config = clip_config(image_tower)
    preprocess = Preprocess.from_config({"size": SIZE, "resize": resize})
    clip.save(folder, clip.create(config, seed), config, preprocess, tokenizer())
    return folder


def write_rewards(weights: Path) -> Path:
    """All reward models of the emoji world."""
    for seed, name in enumerate(("clip_emoji", "clip_emoji_b", "judge_emoji")):
        write_clip(weights / name, seed)
    head = {"weight": torch.linspace(-1, 1, 8)[None], "bias": torch.tensor([5.0])}
    aesthetic.save(weights / "aesthetic_emoji", head, "../clip_emoji")
    return weights


def config(data: Path, weights: Path, **settings: Any) -> ExperimentConfig:
    """A configuration; dots in names are written as two underscores."""
    given = {name.replace("__", "."): value for name, value in settings.items()}
    places = {"data.path": str(data), "reward.weights": str(weights), "device": "cpu"}
    return build(override(defaults(), {**REQUIRED, **places, **given}))


def context(settings: ExperimentConfig, output: Path, report: Report = silent, **inputs: Path) -> StageContext:
    """What a stage is given; ``output`` is made."""
    output.mkdir(parents=True, exist_ok=True)
    return StageContext(settings, inputs, output, report)
