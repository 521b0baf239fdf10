"""The cheap stages with scores that depend on what is tuned, and sweeps that are tuned over them.

The score of a cell falls with the distance of its ``loss.beta`` from 1000 (``ipo``: from 4000), in powers of two, and
of its learning rate from 1e-3 (:func:`quality`). A training diverges that ``FAKE_DIVERGES`` names, as ``loss/beta/rate/
seed``, and one fails that ``FAKE_FAILS`` names; a ``*`` stands for any, and several are separated by spaces.
"""

from __future__ import annotations

import csv
import fnmatch
import io
import math
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
from tests.ablations.fake_stages import key_of, stage_inputs, stages_of

__all__ = ["key_of", "stage_inputs", "stages_of"]
HERE = "tests.ablations.tuned_stages"
_PROMPTS = ("evaluation.splits", "evaluation.prompts_per_split")
_BEST = {"dpo": 1000.0, "ipo": 4000.0}


def _train_reads(values: Mapping[str, Any]) -> tuple[str, ...]:
    reads = tuple(fake_stages.STAGES["train"].reads(values))
    ignored = {"loss.beta"} if values["loss.name"] == "sft" else set()
    return tuple(name for name in (*reads, "training.learning_rate") if name not in ignored)


STAGES: dict[str, StageSpec] = {
    **fake_stages.STAGES,
    "train": replace(fake_stages.STAGES["train"], entry=f"{HERE}:train", reads=_train_reads),
    "generate": replace(
        fake_stages.STAGES["generate"],
        entry=f"{HERE}:generate",
        reads=lambda _: ("adapter", "generation.steps", *_PROMPTS),
    ),
    "evaluate": replace(fake_stages.STAGES["evaluate"], entry=f"{HERE}:evaluate"),
}


def stage_meaning(stage: str, values: Mapping[str, Any]) -> dict[str, Any]:
    fields = fake_stages.schema_fields()
    return {
        name: values[name]
        for name in STAGES[stage].reads(values)
        if fields[name].required or values[name] != fields[name].default
    }


def _hit(variable: str, values: Mapping[str, Any]) -> bool:
    rate = f"{values['training.learning_rate']:g}"
    name = f"{values['loss.name']}/{values['loss.beta']:g}/{rate}/{values['seed']}"
    return any(fnmatch.fnmatch(name, wanted) for wanted in os.environ.get(variable, "").split())


def train(context: StageContext) -> None:
    """As the cheap training, unless the environment says that it fails or diverges."""
    if _hit("FAKE_FAILS", _values(context)):
        raise UserError("the stage fails on purpose")
    if _hit("FAKE_DIVERGES", _values(context)):
        raise NonFiniteLossError(3, "loss", float("nan"))
    fake_stages.train(context)


def _values(context: StageContext) -> dict[str, Any]:
    config = context.config
    return {
        "loss.name": config.loss.name,
        "loss.beta": config.loss.beta,
        "training.learning_rate": config.training.learning_rate,
        "seed": config.seed,
        "adapter": config.adapter,
        "evaluation.splits": config.evaluation.splits,
        "evaluation.scorers": config.evaluation.scorers,
        "evaluation.prompts_per_split": config.evaluation.prompts_per_split,
    }


def generate(context: StageContext) -> None:
    """As the cheap generation, with an image of one colour for every prompt and index."""
    fake_stages.digest_inputs(context)
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 120, 60)).save(stream, "PNG")
    about = _about(_values(context))
    images = pa.array([stream.getvalue()] * about.num_rows)
    pq.write_table(about.append_column("image", images), context.output / "images-00000.parquet")


def evaluate(context: StageContext) -> None:
    """Scores of the prompts of the world for every scorer."""
    fake_stages.log("run", context)
    write_evaluation(context.output, _values(context))


def quality(values: Mapping[str, Any]) -> float:
    """The true mean of a cell, without its seed's part."""
    if values["adapter"] == "none":
        return -3.0
    beta, rate = values["loss.beta"], values["training.learning_rate"]
    away = 0.0 if values["loss.name"] == "sft" else math.log2(beta / _BEST[values["loss.name"]]) ** 2
    return -0.1 * away - 0.05 * math.log2(rate / 1e-3) ** 2


def write_evaluation(folder: Path, values: Mapping[str, Any]) -> None:
    """The files of an evaluation of a cell with this flat configuration: two images of every prompt."""
    about = _about(values)
    seed = 0.01 * math.sin(values["seed"]) if values["adapter"] != "none" else 0.0
    level = np.repeat(np.sin(np.arange(about.num_rows // 2)), 2)
    tables = []
    for scorer in values["evaluation.scorers"]:
        table = about.append_column("score", pa.array(level + quality(values) + seed))
        for name, value in (("scorer", scorer), ("revision", "r1"), ("unit", "points")):
            table = table.append_column(name, pa.array([value] * table.num_rows))
        tables.append(table)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.concat_tables(tables), folder / "scores.parquet")


def _about(values: Mapping[str, Any]) -> pa.Table:
    """A row per prompt and image."""
    with Path("world/prompts.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] in values["evaluation.splits"]]
    most = values["evaluation.prompts_per_split"]
    rows = rows if most is None else rows[:most]
    columns = {name: [row[name] for row in rows for _ in range(2)] for name in ("prompt_id", "split", "caption")}
    return pa.table({**columns, "image_index": pa.array([0, 1] * len(rows), pa.int32())})
