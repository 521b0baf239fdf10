"""A tiny CLIP, choices and ranked groups to train and test it on: seconds on a CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from qsd.reward_training.train import train_reward
from qsd.rewards import clip
from qsd.rewards.preprocess import Preprocess
from qsd.runtime import Report, silent
from tests.qsd import tiny_lists
from tests.qsd.tiny_pipeline import tokenizer
from tests.qsd.tiny_world import SIZE, clip_config, picture

STEPS = 8
RECIPE = {
    "training": {"steps": STEPS, "batch": 4, "learning_rate": 1e-3, "weight_decay": 0.35, "checkpoint_steps": 3},
    "layers": {"image_blocks": 2, "text_blocks": 1},
    "device": "cpu",
}


def write_clip(folder: Path, seed: int = 0, image_blocks: int = 3, text_blocks: int = 2) -> Path:
    """A CLIP of several narrow blocks with random weights."""
    config = clip_config({"layers": image_blocks, "width": 16, "head_width": 8, "patch_size": 16})
    config["text_cfg"]["layers"] = text_blocks
    preprocess = Preprocess.from_config({"size": SIZE})
    clip.save(folder, clip.create(config, seed), config, preprocess, tokenizer())
    return folder


def write_groups(folder: Path, count: int = 5, images: int = 4, annotators: int = 3) -> Path:
    """HPD v2's ``test.json`` with random rankings."""
    rng = np.random.default_rng(0)
    items = []
    for number in range(count):
        own = [(rng.permutation(images) + 1).tolist() for _ in range(annotators)]
        names = [tiny_lists.put(folder / "test", picture(1000 + number * images + one)) for one in range(images)]
        people = [{"rank": rank, "user_hash": f"{place:064x}"} for place, rank in enumerate(own)]
        mean = np.mean(own, axis=0).tolist()
        items.append({"prompt": f"group {number}", "image_path": names, "rank": mean, "raw_annotations": people})
    return tiny_lists.write_list(folder / "test.json", items)


def write_world(root: Path, pairs: int = 12) -> Path:
    """``root`` with ``rewards/base``, ``data/train.json`` and ``data/test.json``."""
    write_clip(root / "rewards" / "base")
    tiny_lists.hpd_train(root / "data", tiny_lists.some_pairs(pairs))
    write_groups(root / "data")
    return root


def write_recipe(root: Path, name: str = "recipe.yaml", **sections: Any) -> Path:
    """A recipe in ``root``; ``sections`` are laid over :data:`RECIPE`, key by key."""
    recipe: dict[str, Any] = {
        "base": {"path": str(root / "rewards" / "base")},
        "choices": {"path": str(root / "data" / "train.json")},
        "test": {"path": str(root / "data" / "test.json")},
        **{section: dict(fields) if isinstance(fields, dict) else fields for section, fields in RECIPE.items()},
    }
    for section, fields in sections.items():
        recipe[section] = {**recipe.get(section, {}), **fields} if isinstance(fields, dict) else fields
    path = root / name
    path.write_text(json.dumps(recipe, indent=1), encoding="utf-8")  # YAML holds JSON
    return path


def run(root: Path, output: Path, report: Report = silent, **sections: Any) -> dict[str, Any]:
    """Train by :func:`write_recipe`."""
    return train_reward(write_recipe(root, f"{output.name}.yaml", **sections), [], output, report)


def rows(output: Path) -> list[dict[str, float]]:
    """The metrics of a training."""
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
