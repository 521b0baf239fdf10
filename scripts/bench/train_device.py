"""The training loop on a device: speed and memory by kernels and micro-batch, the contract of step 0, a profile.

Norms in bf16, gradient checkpointing, dropout and DoRA have lines of their own.

    .venv/bin/python -m scripts.bench.train_device --random sd15 FOLDER --out benchmarks/train_sd15_device.md
    .venv/bin/python -m scripts.bench.train_device --batches 4,16 --kernels plain,channels_last

Each line is a training of its own whose steps are one micro-batch, with reference errors found, as in every cell of a
sweep but the first. |d| at step 0 is the largest logit of a fresh adapter against stored reference errors, which should
be 0; the loss multiplies it by half of β. Pairs/s count neither compiling nor the first steps. The profile is of the
fastest line.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from qsd.config.schema import ExperimentConfig
from qsd.models.precision import BF16_NORMS
from qsd.training.engine import Engine
from qsd.training.offpolicy.denoising_errors import pair_errors
from qsd.training.offpolicy.method import PairsMethod
from qsd.training.throughput import count_flops, peak
from scripts.bench.ceiling import ceiling
from scripts.bench.training_subject import add_arguments, configuration, hardware, subject
from scripts.bench.training_ways import Ways, prepare_artefacts

KERNELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "channels_last": {"training.channels_last": True},
    "compile": {"training.compile": True},
    "channels_last+compile": {"training.channels_last": True, "training.compile": True},
    "bf16_norms": {"training.precision": BF16_NORMS},
    "bf16_norms+channels_last+compile": {
        "training.precision": BF16_NORMS,
        "training.channels_last": True,
        "training.compile": True,
    },
    "checkpointing": {"training.gradient_checkpointing": True},
    "dropout": {"lora.dropout": 0.1},
    "dora": {"lora.dora": True},
}
"""Settings by the name of a line. Those with a precision are left out of a bench in fp32 unless asked for."""
BATCHES = (2, 4, 8, 16, 32)
FIRST_STEPS = 3
"""Not timed: kernels are chosen and compiled, and AdamW's state is made."""
PROFILED = 12
"""Operations of the profile."""


@dataclass(frozen=True)
class Line:
    """One training; numbers are None when it ran out of memory.

    Attributes:
        kernels: a name of ``KERNELS``.
        pairs: of a micro-batch, which is a step.
        first_logit: the largest |d| at step 0.
        rate: pairs/s.
        memory: peak bytes of the GPU; None on a CPU.
    """

    kernels: str
    pairs: int
    first_logit: float | None = None
    rate: float | None = None
    memory: int | None = None


def sweep(
    config: ExperimentConfig, folder: Path, kernels: Sequence[str], batches: Sequence[int], steps: int
) -> Iterator[Line]:
    """A ``Line`` for each of ``kernels`` and ``batches``."""
    for name in kernels:
        for pairs in batches:
            yield _line(_sized(config, name, pairs), folder, name, steps)
            _freed()


def _line(config: ExperimentConfig, folder: Path, kernels: str, steps: int) -> Line:
    pairs, last = config.training.pairs_per_step, FIRST_STEPS + 1 + steps
    ways = Ways(config, folder)
    cuda = ways.device.type == "cuda"
    try:
        ways.fill(last)
        _freed()
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        engine = ways.engine(ways.shared)
        with engine.method.batches:
            logit = first_logit(engine)
            for number in range(1, FIRST_STEPS + 1):
                engine.step(number)
            begin = ways.clock()
            for number in range(FIRST_STEPS + 1, last):
                engine.step(number)
            seconds = ways.clock() - begin
    except torch.OutOfMemoryError:
        return Line(kernels, pairs)
    memory = torch.cuda.max_memory_allocated() if cuda else None
    return Line(kernels, pairs, logit, pairs * steps / seconds, memory)


def _sized(config: ExperimentConfig, kernels: str, pairs: int) -> ExperimentConfig:
    given: dict[str, dict[str, Any]] = {"lora": {}, "training": {"micro_batch": pairs, "pairs_per_step": pairs}}
    for dotted, value in KERNELS[kernels].items():
        section, _, name = dotted.partition(".")
        given[section][name] = value
    return replace(
        config, lora=replace(config.lora, **given["lora"]), training=replace(config.training, **given["training"])
    )


def usual_kernels(precision: str) -> list[str]:
    """The lines of a bench that names none."""
    return [name for name, settings in KERNELS.items() if precision != "fp32" or "training.precision" not in settings]


def first_logit(engine: Engine[PairsMethod]) -> float:
    """The largest |d| of the pairs of step 0, against the errors in the store; the adapter must be fresh."""
    method = engine.method
    precision = method.config.training.precision
    largest = 0.0
    for item in method.batches.take(0):
        with torch.no_grad(), method.kernels():
            errors = pair_errors(method.denoiser, item.batch, True, precision, item.reference)
        largest = max(largest, errors.logits.abs().max().item())
    return largest


def _freed() -> None:
    gc.collect()
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def flops_per_pair(config: ExperimentConfig, folder: Path) -> float:
    """Operations of one pair, forward and backward, with plain kernels; the same for every line."""
    ways = Ways(_sized(config, "plain", 1), folder)
    engine = ways.engine(ways.shared)
    engine.step(0)  # what the store lacks is computed here
    return float(count_flops(lambda: engine.step(1)))


def profile(config: ExperimentConfig, folder: Path, best: Line) -> Iterator[str]:
    """A table of the operations that take most of the device's time in steps of the fastest line."""
    ways = Ways(_sized(config, best.kernels, best.pairs), folder)
    engine = ways.engine(ways.shared)
    for number in range(FIRST_STEPS):
        engine.step(number)
    cuda = ways.device.type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if cuda else [])]
    with torch.profiler.profile(activities=activities) as profiler:
        begin = ways.clock()
        for number in range(FIRST_STEPS, FIRST_STEPS + 3):
            engine.step(number)
        seconds = ways.clock() - begin
    field = "self_device_time_total" if cuda else "self_cpu_time_total"
    rows = [(getattr(row, field) / 1e6, row.count, row.key) for row in profiler.key_averages()]
    total = sum(row[0] for row in rows)
    yield f"Steps of {best.pairs} pairs, {best.kernels}: the device is busy {total / seconds:.0%} of the time."
    yield ""
    yield "| operation | share of the device's time | calls a step |"
    yield "|---|---|---|"
    for spent, calls, name in sorted(rows, reverse=True)[:PROFILED]:
        yield f"| `{name[:70]}` | {spent / total:.1%} | {calls / 3:.0f} |"


def report(
    config: ExperimentConfig, folder: Path, kernels: Sequence[str], batches: Sequence[int], steps: int
) -> Iterator[str]:
    """The whole page, line by line."""
    ways = Ways(config, folder)
    precision = config.training.precision
    sheet, reached = peak(ways.device, precision), ceiling(ways.device, precision, ways.clock)
    flops = flops_per_pair(config, folder)
    _freed()
    yield f"- {hardware(ways.device, config.threads)}"
    yield f"- {subject(config)}; {flops / 1e12:.3g} TFLOP a pair; {steps} steps timed"
    yield f"- {reached.line(sheet)}"
    yield ""
    yield "| kernels | pairs | pairs/s | TFLOP/s | of ceiling | of sheet | memory | largest abs d at step 0 |"
    yield "|---|---|---|---|---|---|---|---|"
    best: Line | None = None
    for line in sweep(config, folder, kernels, batches, steps):
        yield _row(line, flops, reached.best, sheet)
        if line.rate and (best is None or best.rate is None or line.rate > best.rate):
            best = line
    yield ""
    if best:
        yield from profile(config, folder, best)


def _row(line: Line, flops: float, reached: float, sheet: float | None) -> str:
    if line.rate is None:
        return f"| {line.kernels} | {line.pairs} | out of memory | | | | | |"
    achieved = flops * line.rate
    of_sheet = f"{achieved / sheet:.0%}" if sheet else "–"
    memory = f"{line.memory / 2**30:.1f} GiB" if line.memory else "–"
    return (
        f"| {line.kernels} | {line.pairs} | {line.rate:.1f} | {achieved / 1e12:.3g} | {achieved / reached:.0%} "
        f"| {of_sheet} | {memory} | {line.first_logit:.1e} |"
    )


def main() -> None:
    """Print the page, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--kernels", help=f"by comma, of {', '.join(KERNELS)}")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)), help="pairs, by comma")
    parser.add_argument("--steps", type=int, default=10, help="timed, of each line")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    unknown = sorted(set(given.kernels.split(",") if given.kernels else ()) - set(KERNELS))
    if unknown:
        parser.error(f"unknown kernels {', '.join(unknown)}; known: {', '.join(KERNELS)}")
    batches = [int(word) for word in given.batches.split(",")]
    config = configuration(given)
    kernels = given.kernels.split(",") if given.kernels else usual_kernels(config.training.precision)
    lines = ["# The training loop on a device", "", "Written by `python -m scripts.bench.train_device`.", ""]
    with tempfile.TemporaryDirectory() as folder:
        prepare_artefacts(config, Path(folder))
        for line in report(config, Path(folder), kernels, batches, given.steps):
            print(line, flush=True)
            lines.append(line)
    if given.out:
        given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
