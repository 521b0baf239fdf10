"""Stage generate: the evaluation images of a cell, or of the untouched base model (``adapter: none``)."""

from __future__ import annotations

import time

import torch
from PIL import Image

from qsd.config.schema import ExperimentConfig
from qsd.data.prompts import read_prompts
from qsd.device import prepare
from qsd.generation.generator import Generator, Wanted
from qsd.generation.images import SHARD_IMAGES, shard_path, write_shard
from qsd.models.pipeline import load_pipeline
from qsd.runtime import StageContext
from qsd.shards import Shard, write_missing


def run(context: StageContext) -> None:
    """Write the shards ``images-*.parquet`` that are not there yet; nothing is loaded when all are.

    Raises:
        UserError: a damaged prompts file, or a model or adapter that cannot be loaded.
    """
    config = context.config
    device = torch.device(prepare(config.device, config.threads))
    wanted = all_wanted(config)
    generator: Generator | None = None
    started, made = time.monotonic(), 0

    def write(shard: Shard) -> None:
        nonlocal generator, started, made
        generator = generator or _open(context, device)
        started = started if made else time.monotonic()
        images = _make(generator, wanted[shard.start : shard.stop], config, context, shard.start, len(wanted))
        write_shard(shard_path(context.output, shard.number), wanted[shard.start : shard.stop], images)
        made += len(images)

    def is_there(shard: Shard) -> bool:
        return shard_path(context.output, shard.number).exists()

    for shard in write_missing(len(wanted), SHARD_IMAGES, is_there, write):
        context.report(shard.stop, len(wanted), "images")
    if made:
        seconds = time.monotonic() - started
        print(f"{made} images in {seconds:.1f} s: {made / seconds:.2f} images/s", flush=True)


def all_wanted(config: ExperimentConfig) -> list[Wanted]:
    """Every image of the evaluation, prompt by prompt."""
    prompts = read_prompts(config.evaluation)
    return [Wanted(prompt, index) for prompt in prompts for index in range(config.generation.images_per_prompt)]


def _open(context: StageContext, device: torch.device) -> Generator:
    config = context.config
    adapter = context.inputs["train"] if config.adapter == "trained" else None
    precision = config.generation.precision
    pipeline = load_pipeline(config.model.path, device, adapter, precision, config.model.vae_precision)
    return Generator(pipeline, config, device)


def _make(
    generator: Generator, shard: list[Wanted], config: ExperimentConfig, context: StageContext, before: int, total: int
) -> list[Image.Image]:
    """The images of a shard, batch by batch; batches never cross shards.

    A batch can take a minute on a CPU, so its denoising steps are reported too, as a share of its images.
    """
    images: list[Image.Image] = []
    for first in range(0, len(shard), config.generation.batch_size):
        batch = shard[first : first + config.generation.batch_size]
        reached = before + len(images)

        def report(share: float, reached: int = reached, size: int = len(batch)) -> None:
            context.report(reached + int(share * size), total, "images")

        images += generator.images(batch, report)
        context.report(before + len(images), total, "images")
    return images
