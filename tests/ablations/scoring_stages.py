"""The cheap stages with an evaluation that writes scores of known effects, for what depends on results.

``lora.rank`` decides the effect on every score (``EFFECTS``) and how far its training seeds are apart (``SPREADS``).
``FAKE_FAILS`` and ``FAKE_DIVERGES`` name trainings that do, as ``rank/seed``.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from qsd.errors import UserError
from qsd.runtime import StageContext
from qsd.stages.stage_spec import StageSpec
from qsd.training.jsonl_log import NonFiniteLossError
from tests.ablations import fake_stages
from tests.ablations.fake_stages import key_of, stage_inputs, stage_meaning, stages_of

__all__ = ["key_of", "stage_inputs", "stage_meaning", "stages_of"]
HERE = "tests.ablations.scoring_stages"
EFFECTS = {4: 0.0, 8: 1.0, 16: 0.0, 32: 0.02}
SPREADS = {4: 1e-4, 8: 1e-3, 16: 1e-4, 32: 0.3}
_PROMPTS, _IMAGES = 12, 2
STAGES: dict[str, StageSpec] = {
    **fake_stages.STAGES,
    "train": replace(fake_stages.STAGES["train"], entry=f"{HERE}:train"),
    "generate": replace(fake_stages.STAGES["generate"], entry=f"{HERE}:generate"),
    "evaluate": replace(fake_stages.STAGES["evaluate"], entry=f"{HERE}:evaluate"),
}


def train(context: StageContext) -> None:
    """As the cheap training, unless the environment says that it fails or diverges."""
    name = f"{context.config.lora.rank}/{context.config.seed}"
    if os.environ.get("FAKE_FAILS") == name:
        raise UserError("the stage fails on purpose")
    if os.environ.get("FAKE_DIVERGES") == name:
        raise NonFiniteLossError(3, "loss", float("nan"))
    fake_stages.train(context)


def generate(context: StageContext) -> None:
    """As the cheap generation, with an image of one colour for every prompt and index."""
    fake_stages.digest_inputs(context)
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (10 * context.config.lora.rank % 256, 120, 60)).save(stream, "PNG")
    about = _about()
    pq.write_table(
        about.append_column("image", pa.array([stream.getvalue()] * about.num_rows)),
        context.output / "images-00000.parquet",
    )


def evaluate(context: StageContext) -> None:
    """Scores of 12 prompts and 2 images for every scorer."""
    fake_stages.log("run", context)
    config = context.config
    write_scores(context.output, config.evaluation.scorers, _of(config.adapter, config.lora.rank), config.seed)


def _of(adapter: str, rank: int) -> int | None:
    return None if adapter == "none" else rank


def write_evaluation(folder: Path, values: Mapping[str, Any]) -> None:
    """The files of an evaluation of a cell with this flat configuration."""
    rank = _of(values["adapter"], values["lora.rank"])
    write_scores(folder, values["evaluation.scorers"], rank, values["seed"])


def write_scores(folder: Path, scorers: list[str], rank: int | None, seed: int) -> None:
    """``scores.parquet`` of a rank, or of the base model."""
    about = _about()
    level = np.repeat(np.sin(np.arange(_PROMPTS)), _IMAGES)
    own = np.random.default_rng([0 if rank is None else rank, seed, 7])
    spread = 0.0 if rank is None else SPREADS[rank] * (-1) ** seed
    effect = -0.5 if rank is None else EFFECTS[rank]
    tables = []
    for scorer in scorers:
        table = about.append_column("score", pa.array(level + effect + spread + own.normal(0, 1e-5, about.num_rows)))
        for name, value in (("scorer", scorer), ("revision", "r1"), ("unit", "points")):
            table = table.append_column(name, pa.array([value] * about.num_rows))
        tables.append(table)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.concat_tables(tables), folder / "scores.parquet")


def _about() -> pa.Table:
    """A row per prompt and image."""
    names = [f"p{number:02d}" for number in range(_PROMPTS) for _ in range(_IMAGES)]
    columns: dict[str, Any] = {
        "prompt_id": names,
        "split": ["evaluation"] * len(names),
        "caption": [f"caption of {name}" for name in names],
        "image_index": pa.array(list(range(_IMAGES)) * _PROMPTS, pa.int32()),
    }
    return pa.table(columns)
