"""How fast the score stage is: from files on disk, against the bare forward pass and against a per-image loop.

    python -m scripts.bench.score [--scorer hps_v2] [--sizes reduced,full] [--out benchmarks]

Random weights in the published layout, real images. All ways are measured alternately in one process, several times,
so that other load on the machine slows all of them equally; ratios are of the sums over all turns. The model is loaded
first, because loading is needed once per data set. On a CUDA device precisions and batch sizes are measured as well
(``scripts.bench.score_device``).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from qsd.device import prepare
from qsd.scoring.scorer_runs import versions
from scripts.bench import score_device
from scripts.bench.score_subjects import REDUCIBLE, SIDE, Subject, architecture, original_loop, subject

FLOOR = {"cpu": 0.9, "cuda": 0.8}
"""Of the bare forward pass at full size, from files."""

COLUMNS = (
    "architecture",
    "images x turns, batch",
    "files, /s",
    "bare, /s",
    "files / bare",
    "by processor",
    "loop, /s",
    "files / loop",
)


@dataclass(frozen=True)
class Turns:
    """Seconds per image, one entry per turn: on the clock, and of the processor for the first two."""

    files: list[float]
    forward: list[float]
    loop: list[float]
    files_cpu: list[float]
    forward_cpu: list[float]

    @property
    def share(self) -> float:
        """Speed from files, of that of the bare forward pass."""
        return sum(self.forward) / sum(self.files)

    @property
    def share_cpu(self) -> float:
        """The same in time of the processor, decoding included: what other work on the machine hardly moves."""
        return sum(self.forward_cpu) / sum(self.files_cpu)

    @property
    def gain(self) -> float:
        """Speed from files, of that of the per-image loop."""
        return sum(self.loop) / len(self.loop) / (sum(self.files) / len(self.files))

    def rates(self) -> tuple[float, float, float]:
        """Images per second: from files, bare, by the loop."""
        files, forward, loop = (len(seconds) / sum(seconds) for seconds in (self.files, self.forward, self.loop))
        return files, forward, loop


def measure(measured: Subject, turns: int, calls: int) -> Turns:
    """Measure all ways alternately, ``turns`` times, after one warm-up batch; ``calls`` of the loop per turn.

    Files and bare change places from turn to turn, so that a machine that slows down favours neither.
    """
    pixels = measured.ready()
    seconds = Turns([], [], [], [], [])

    def forward(_turn: int) -> float:
        spent, scores = measured.forward(pixels)
        assert bool(torch.isfinite(scores).all())
        return spent

    ways = [(forward, seconds.forward, seconds.forward_cpu), (measured.from_files, seconds.files, seconds.files_cpu)]
    warm = measured.column.batch_size
    measured.scorer.score(list(pixels[:warm]), measured.captions(0, min(warm, measured.count)))
    for turn in range(turns):
        for way, clock, processor in ways if turn % 2 == 0 else ways[::-1]:
            begin = time.process_time()
            clock.append(way(turn) / measured.count)
            processor.append((time.process_time() - begin) / measured.count)
        seconds.loop.append(original_loop(measured, calls))
    return seconds


def header(device: str, threads: int) -> list[str]:
    """Hardware and versions."""
    where = torch.cuda.get_device_name() if device.startswith("cuda") else _processor()
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the start"
    return [
        f"{where}, {threads} CPU threads for the model, {load}; Python {platform.python_version()}; {_named()}.",
        "",
    ]


def _named() -> str:
    return ", ".join(f"{name} {version}" for name, version in json.loads(versions()).items())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> int:
    """Measure and print; 1 if the share of the bare forward pass at full size is below its floor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scorer", default="hps_v2", choices=("hps_v2", "hps_v2.1"), help="whose package has the loop")
    parser.add_argument("--sizes", default="reduced,full", help="architectures, of reduced and full")
    parser.add_argument("--images", type=int, default=6, help="at full size; 256 at reduced size")
    parser.add_argument("--batch", type=int, default=2, help="at full size; 16 at reduced size")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--calls", type=int, default=1, help="of the per-image loop in each turn, at full size")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="threads that decode")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="folder for the report: score_cpu.md, or score_cuda.md on a GPU")
    options = parser.parse_args()
    device = prepare(options.device, options.threads)
    assert options.scorer in REDUCIBLE
    lines = ["# Speed of scoring", "", *header(device, options.threads)]
    lines += [
        f"`{options.scorer}` with random weights; JPEG files of {SIDE} x {SIDE} pixels in a parquet file.",
        "*Files*: from them to scores on disk, by the code of the stage. *Bare*: the model alone on ready tensors, in",
        "the same batches. *Loop*: `hpsv2.img_score.score` restated, which reads its checkpoint at every call.",
        "Rates are images per second on the clock. The second share is of the processor's time, decoding included,",
        "which other work on the machine hardly moves.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    print("\n".join(lines), flush=True)
    below = False
    notes: list[str] = []
    for size in options.sizes.split(","):
        reduced = size == "reduced"
        images, batch, calls = (256, 16, 8) if reduced else (options.images, options.batch, options.calls)
        with architecture(reduced), tempfile.TemporaryDirectory() as folder:
            measured = subject(options.scorer, Path(folder), images, batch, device, options.workers)
            turns = measure(measured, options.turns, calls)
        files, forward, loop = turns.rates()
        below |= not reduced and turns.share < FLOOR[device.partition(":")[0]]
        lines.append(
            f"| {size} | {images} x {options.turns}, {batch} | {files:.4g} | {forward:.4g} | {turns.share:.1%} "
            f"| {turns.share_cpu:.1%} | {loop:.4g} | {turns.gain:.3g} |"
        )
        spread = ", ".join(f"{a / b:.1%}" for a, b in zip(turns.forward, turns.files, strict=True))
        print(lines[-1], flush=True)
        notes.append(f"Files / bare turn by turn, {size}: {spread}.")
    lines += ["", *notes]
    print("\n".join(["", *notes]), flush=True)
    if device.startswith("cuda"):
        for line in score_device.report(device, options.workers):
            print(line, flush=True)
            lines.append(line)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        report = options.out / f"score_{device.partition(':')[0]}.md"
        report.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if below:
        print("below the floor at full size", file=sys.stderr)
    return int(below)


if __name__ == "__main__":
    sys.exit(main())
