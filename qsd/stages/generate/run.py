"""Stage generate: the evaluation images of a cell, or of the untouched base model (``adapter: none``)."""

from __future__ import annotations

import time
from concurrent.futures import Future
from pathlib import Path

import torch

from qsd.config.schema import ExperimentConfig
from qsd.data.prompts import read_prompts
from qsd.device import prepare
from qsd.evaluation.categories import write_categories
from qsd.generation.generator import Generator, Wanted
from qsd.generation.images import SHARD_IMAGES, shard_path
from qsd.generation.writer import ShardWriter
from qsd.models.pipeline import compile_network, load_pipeline, use_channels_last
from qsd.runtime import StageContext
from qsd.shards import cut


def run(context: StageContext) -> None:
    """Write the shards ``images-*.parquet`` that are not there yet; nothing is loaded when all are.

    Beside them is ``categories.json`` if the prompts have categories.

    Raises:
        UserError: a damaged prompts file, a model or adapter that cannot be loaded, or a sampler that does not fit.
    """
    config = context.config
    device = torch.device(prepare(config.device, config.threads))
    wanted = all_wanted(config)
    write_categories(context.output, [item.prompt for item in wanted])
    adapter = context.inputs["train"] if config.adapter == "trained" else None
    generator: Generator | None = None
    started, made = time.monotonic(), 0
    with ShardWriter(config.generation.workers) as writer:
        for shard in cut(len(wanted), SHARD_IMAGES):
            path = shard_path(context.output, shard.number)
            if not path.exists():
                generator = generator or open_generator(config, adapter, device)
                started = started if made else time.monotonic()
                items = wanted[shard.start : shard.stop]
                writer.add(path, items, _make(generator, writer, items, context, shard.start, len(wanted)))
                made += len(items)
            context.report(shard.stop, len(wanted), "images")
    if made:
        seconds = time.monotonic() - started
        print(f"{made} images in {seconds:.1f} s: {made / seconds:.2f} images/s", flush=True)


def all_wanted(config: ExperimentConfig) -> list[Wanted]:
    """Every image of the evaluation, prompt by prompt."""
    prompts = read_prompts(config.evaluation)
    return [Wanted(prompt, index) for prompt in prompts for index in range(config.generation.images_per_prompt)]


def open_generator(config: ExperimentConfig, adapter: Path | None, device: torch.device) -> Generator:
    """What draws the images of a configuration.

    Args:
        config: of the cell.
        adapter: folder of stage train, or with an adapter of any known layout; None: the untouched base model.
        device: where it computes.

    Raises:
        UserError: a model or adapter that cannot be loaded, or a sampler that does not fit.
    """
    settings = config.generation
    pipeline = load_pipeline(
        config.model.path,
        device,
        adapter,
        settings.precision,
        settings.vae_precision or config.model.vae_precision,
        settings.sampler,
    )
    if settings.channels_last:
        use_channels_last(pipeline)
    if settings.compile:
        compile_network(pipeline)
    return Generator(pipeline, config, device)


def _make(
    generator: Generator, writer: ShardWriter, shard: list[Wanted], context: StageContext, before: int, total: int
) -> list[Future[bytes]]:
    """The files of a shard's images, batch by batch; batches never cross shards.

    A batch can take a minute on a CPU, so its denoising steps are reported too, as a share of its images.
    """
    files: list[Future[bytes]] = []
    size = context.config.generation.batch_size
    for first in range(0, len(shard), size):
        batch = shard[first : first + size]
        reached = before + first

        def report(share: float, reached: int = reached, size: int = len(batch)) -> None:
            context.report(reached + int(share * size), total, "images")

        files += writer.compress(generator.images(batch, report))
        context.report(before + len(files), total, "images")
    return files
