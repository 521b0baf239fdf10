"""From encoding to a stock pipeline, for every kind of base model: its images with the adapter are ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import diffusers
import numpy as np
import pytest
import torch

from qsd.generation.images import read_images
from qsd.stages.encode import run as encode
from qsd.stages.generate import run as generate
from qsd.stages.train import run as train
from tests.conftest import ROOT
from tests.qsd import tiny_pipeline
from tests.qsd.stock import drawn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.qsd.tiny_stages import TinyStages

pytestmark = pytest.mark.slow

GUIDANCE, STEPS, SEED = 4.0, 3, 5
RECIPE = {
    "training__steps": 3,
    "training__learning_rate": 0.03,
    "training__caption_dropout": 0.3,
    "lora__alpha": 4.0,
    "lora__targets": ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "proj_in"],
    "generation__guidance_scale": GUIDANCE,
    "generation__steps": STEPS,
    "generation__seed": SEED,
    "evaluation__prompts_per_split": 1,
}


@dataclass(frozen=True)
class Base:
    """A base model to go through all stages with."""

    make: Callable[[Path], Path]
    pipeline: str = "StableDiffusionPipeline"
    prediction: str = "epsilon"
    resolution: int = tiny_pipeline.RESOLUTION
    adapter: dict[str, Any] = field(default_factory=dict)


BASES = {
    "sd": Base(tiny_pipeline.save),
    "sd, v": Base(lambda folder: tiny_pipeline.save(folder, "v_prediction"), prediction="v_prediction"),
    "sdxl": Base(tiny_pipeline.save_xl, "StableDiffusionXLPipeline"),
    "sdxl, v": Base(
        lambda folder: tiny_pipeline.save_xl(folder, "v_prediction"), "StableDiffusionXLPipeline", "v_prediction"
    ),
    "sd, rslora": Base(tiny_pipeline.save, adapter={"lora__rslora": True, "lora__dropout": 0.2}),
    "sd, dora": Base(tiny_pipeline.save, adapter={"lora__dora": True, "lora__dropout": 0.2}),
    "sdxl, dora, rslora": Base(
        tiny_pipeline.save_xl, "StableDiffusionXLPipeline", adapter={"lora__dora": True, "lora__rslora": True}
    ),
    "emoji": Base(lambda _folder: ROOT / "experiments" / "emoji" / "assets" / "model", resolution=64),
}


@pytest.mark.parametrize("name", BASES)
def test_a_stock_pipeline_draws_the_same_with_the_adapter(world: TinyStages, tmp_path: Path, name: str) -> None:
    base = BASES[name]
    folder = base.make(tmp_path / "model")
    settings = {**RECIPE, **base.adapter, "model__path": str(folder), "model__resolution": base.resolution}
    done = world.with_inputs(encode=world.run(encode, tmp_path / "encode", **settings))
    done = done.with_inputs(train=done.run(train, tmp_path / "train", **settings))
    ours = list(read_images(done.run(generate, tmp_path / "images", **settings)))

    kind = getattr(diffusers, base.pipeline)
    stock = kind.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    stock.scheduler = diffusers.DDIMScheduler.from_config(stock.scheduler.config, clip_sample=False)
    assert stock.scheduler.config.prediction_type == base.prediction
    stock.set_progress_bar_config(disable=True)
    prompts = [(item.prompt_id, item.caption) for item in ours]
    before = drawn(stock, prompts, base.resolution, STEPS, GUIDANCE, SEED)
    stock.load_lora_weights(tmp_path / "train" / "adapter")
    after = drawn(stock, prompts, base.resolution, STEPS, GUIDANCE, SEED)
    assert len(ours) == 2
    for item, theirs, untouched in zip(ours, after, before, strict=True):
        assert np.abs(np.asarray(item.image, np.int16) - theirs).max() <= 1
        assert np.abs(theirs - untouched).max() > 4
