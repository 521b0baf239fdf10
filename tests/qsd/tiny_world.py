"""A preference data set of a few rows and reward models with random weights: seconds on a CPU."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from qsd.config.load import build, defaults, override
from qsd.rewards import aesthetic, clip
from qsd.rewards.preprocess import Preprocess
from qsd.stages.context import StageContext, silent
from tests.qsd.tiny_pipeline import tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from qsd.config.schema import ExperimentConfig
    from qsd.stages.context import Report

SIZE = 32
REQUIRED = {
    "model.path": "model",
    "evaluation.prompts": "prompts.csv",
    "evaluation.scorers": ["judge_emoji"],
    "training.steps": 1,
    "training.pairs_per_step": 1,
    "training.learning_rate": 1e-3,
    "reward.model": "clip_emoji",
}


def picture(seed: int, width: int = SIZE, height: int = SIZE, kind: str = "PNG") -> bytes:
    """The file of a random picture."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def good_rows(count: int) -> list[dict[str, Any]]:
    """Rows without damage; the images of row 2k come again in row 2k + 1 under another caption."""
    return [
        {
            "jpg_0": picture(4 * (number // 2)),
            "jpg_1": picture(4 * (number // 2) + 1, SIZE + 8, SIZE - 4, "JPEG"),
            "label_0": float(number % 3 == 0),
            "caption": f"picture {number}, tiny style",
            "ranking_id": 1000 + number,
            "user_id": f"user {number % 3}",
        }
        for number in range(count)
    ]


def write_rows(path: Path, rows: list[dict[str, Any]], group: int = 8) -> Path:
    """A parquet file in Pick-a-Pic's layout."""
    table = pa.Table.from_pylist(rows)
    for place, name in enumerate(table.schema.names):
        if name.startswith("jpg"):
            table = table.set_column(place, name, table[name].cast(pa.binary()))
    pq.write_table(table, path, row_group_size=group)
    return path


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
