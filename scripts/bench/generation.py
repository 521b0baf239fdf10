"""make bench-generate: images of the evaluation per second, as it was and as it is, and what each part takes.

    .venv/bin/python -m scripts.bench.generation [--experiment FILE] [--set name=value]... [--ways A,B] [--out FILE]

All ways draw the same images of the untouched base model, in turns, round after round, so that whatever else the
machine does hits all of them. Ratios are of rounds, on the clock; the median is the figure. The difference is of the
pixels to those of the first way, where that says something: another sampler draws other images.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from qsd.config.assignments import assignment
from qsd.config.load import Flat, build, load_flat, override
from qsd.device import prepare
from qsd.generation.generator import Generator, Wanted
from qsd.generation.images import read_shard, webp, write_shard
from qsd.generation.writer import ShardWriter
from qsd.models.pipeline import pipeline_family
from qsd.stages.generate.run import all_wanted, open_generator
from scripts.bench.training_subject import hardware

BEFORE = "one thread"
WAYS: dict[str, dict[str, Any]] = {
    BEFORE: {},
    "compressed in threads": {},
    "channels_last": {"generation.channels_last": True},
    "compile": {"generation.compile": True},
    "VAE in bf16": {"generation.vae_precision": "bf16"},
    "dpmpp_2m_karras in half the steps": {"generation.sampler": "dpmpp_2m_karras"},
}
"""Settings over the experiment's, by the name in the table. ``compile`` takes minutes to start."""
USUAL = tuple(name for name in WAYS if name != "compile")
PARTS = ("network", "VAE", "text", "compression")


@dataclass(frozen=True)
class Way:
    """One way of making the images of a stage."""

    name: str
    generator: Generator
    workers: int

    def draw(self, wanted: Sequence[Wanted], size: int, folder: Path) -> float:
        """Seconds for all images, from prompts to files on disk, in shards of one batch."""
        begin = time.monotonic()
        batches = [wanted[first : first + size] for first in range(0, len(wanted), size)]
        paths = [folder / f"{number}.parquet" for number in range(len(batches))]
        if self.name == BEFORE:
            for path, batch in zip(paths, batches, strict=True):
                write_shard(path, batch, [webp(image) for image in self.generator.images(batch)])
        else:
            with ShardWriter(self.workers) as writer:
                for path, batch in zip(paths, batches, strict=True):
                    writer.add(path, batch, writer.compress(self.generator.images(batch)))
        return time.monotonic() - begin


def pixels(folder: Path) -> np.ndarray[Any, np.dtype[np.int16]]:
    """All images that a way left there, [N, H, W, 3]."""
    images = [item.image for path in sorted(folder.glob("*.parquet")) for item in read_shard(path)]
    return np.stack([np.asarray(image, np.int16) for image in images])


def opened(flat: Flat, name: str) -> Way:
    """A way with its own copy of the base model."""
    settings = dict(WAYS[name])
    if "generation.sampler" in settings:
        settings["generation.steps"] = max(1, int(flat["generation.steps"]) // 2)
    config = build(override(flat, {**settings, "adapter": "none"}))
    device = torch.device(prepare(config.device, config.threads))
    return Way(name, open_generator(config, None, device), config.generation.workers)


@contextmanager
def parts(generator: Generator) -> Iterator[dict[str, float]]:
    """Seconds of the processor by part, of all that is drawn in the context by one thread."""
    spent = dict.fromkeys(PARTS, 0.0)

    def timed(function: Any, part: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            begin = time.process_time()
            result = function(*arguments, **options)
            spent[part] += time.process_time() - begin
            return result

        return call

    pipeline, text = generator._pipeline, generator._text
    network = getattr(pipeline, pipeline_family(pipeline).network)
    places = [(network, "forward"), (pipeline.vae, "decode"), (text, "conditioning"), (sys.modules[__name__], "webp")]
    with ExitStack() as stack:
        for (place, name), part in zip(places, PARTS, strict=True):
            stack.enter_context(mock.patch.object(place, name, timed(getattr(place, name), part)))
        yield spent


def report(flat: Flat, names: Sequence[str], images: int, rounds: int) -> Iterator[str]:
    """The figures as Markdown."""
    config = build(flat)
    size, wanted = config.generation.batch_size, all_wanted(config)[:images]
    ways = {name: opened(flat, name) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    drawn: dict[str, np.ndarray[Any, np.dtype[np.int16]]] = {}
    for round_ in range(-1, rounds):  # the first one is to warm up
        for name in names if round_ % 2 else names[::-1]:
            with tempfile.TemporaryDirectory() as folder:
                spent = ways[name].draw(wanted, size, Path(folder))
                if round_ < 0:
                    drawn[name] = pixels(Path(folder))
                else:
                    seconds[name].append(spent)
    device = torch.device(prepare(config.device, config.threads))
    settings = config.generation
    busy = os.getloadavg()[0]
    yield f"- {hardware(device, config.threads)}, {settings.workers} threads that compress"
    yield f"- at the end {busy:.1f} processes were running or waiting, on {os.cpu_count()} cores"
    yield (
        f"- {config.model.path}, {config.model.resolution} px, {settings.steps} steps, guidance "
        f"{settings.guidance_scale:g}, {settings.precision}; {len(wanted)} images in batches of {size}"
    )
    yield f"- {rounds} rounds in turns; median [least, most] over rounds, on the clock"
    yield ""
    yield "| way | images/s | times the first | difference of pixels: mean, largest of 255 |"
    yield "|---|---|---|---|"
    for name in names:
        ratios = [before / own for before, own in zip(seconds[names[0]], seconds[name], strict=True)]
        ratio = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        difference = np.abs(drawn[name] - drawn[names[0]])
        speed = len(wanted) / statistics.median(seconds[name])
        yield f"| {name} | {speed:.2f} | {ratio} | {difference.mean():.2f}, {difference.max()} |"
    yield ""
    yield "| part of the first way | seconds of the processor per 100 images | share |"
    yield "|---|---|---|"
    for part, share, each in shares(opened(flat, BEFORE), wanted, size):
        yield f"| {part} | {100 * each:.3g} | {share:.1%} |"


def shares(way: Way, wanted: Sequence[Wanted], size: int) -> Iterator[tuple[str, float, float]]:
    """Part, its share and its seconds per image, of a generator that has encoded no caption yet; then the rest."""
    with tempfile.TemporaryDirectory() as folder, parts(way.generator) as spent:
        begin = time.process_time()
        way.draw(wanted, size, Path(folder))
        total = time.process_time() - begin
    for part, seconds in {**spent, "the rest": total - sum(spent.values())}.items():
        yield part, seconds / total, seconds / len(wanted)


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", type=Path, default=Path("experiments/emoji.yaml"))
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE")
    parser.add_argument("--ways", default=",".join(USUAL), help=f"of {', '.join(WAYS)}")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the figures there, too")
    return parser.parse_args()


def main() -> int:
    """Run the bench."""
    arguments = read_arguments()
    names = [BEFORE, *(name for name in map(str.strip, arguments.ways.split(",")) if name != BEFORE)]
    unknown = [name for name in names if name not in WAYS]
    if unknown:
        raise SystemExit(f"error: --ways {unknown[0]}: known: {', '.join(WAYS)}")
    flat = override(load_flat(arguments.experiment), dict(assignment(setting) for setting in arguments.settings))
    text = "\n".join(report(flat, names, arguments.images, arguments.rounds))
    print(text)
    if arguments.out:
        title = "# Images of the evaluation per second\n\nWritten by `make bench-generate`.\n"
        arguments.out.write_text(f"{title}\n{text}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
