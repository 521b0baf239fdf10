"""make bench-train: this loop against the step of the public Diffusion-DPO LoRA script, in one run, on one batch size.

    .venv/bin/python -m scripts.bench.train [--experiment FILE] [--set name=value]... [--rounds N] [--out FILE]
    .venv/bin/python -m scripts.bench.train --random sd15 FOLDER --out benchmarks/train_sd15_gpu.md

Four ways are timed in turns, round after round, so that whatever else the machine does hits all alike: the public step
from pixels, with the gradient checkpointing of its README's command and without; this loop computing reference errors;
this loop finding them, as every cell of a sweep but the first does.
Both train the adapter of the public script (rank 8 on the attention projections) unless --set says otherwise. Ratios
are of rounds; the median is the figure. On a CPU, time is of the processor. Exit status 1 when the ratio is below
``--least``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from qsd.training.throughput import count_flops, peak
from scripts.bench.ceiling import Ceiling, ceiling
from scripts.bench.training_subject import add_arguments, configuration, hardware, subject
from scripts.bench.training_ways import PUBLIC, README, SHARED, WAYS, Ways, prepare_artefacts


def timed(ways: Ways, rounds: int, steps: int) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds a step, by way and round, and operations a step; a store that holds all errors is filled before."""
    ways.fill(rounds * steps + 2)
    with_store = ways.engine(ways.shared)
    step = {name: with_store.step if name == SHARED else ways.way(name) for name in WAYS}
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    with with_store.method.batches:
        for name in WAYS:
            step[name](0)
        flops = {name: count_flops(lambda name=name: step[name](1)) for name in WAYS}
        for round_ in range(rounds):
            for name in WAYS if round_ % 2 else WAYS[::-1]:
                begin = ways.clock()
                for number in range(steps):
                    step[name](2 + round_ * steps + number)
                seconds[name].append((ways.clock() - begin) / steps)
    summary = str(with_store.method.batches.cache_summary())
    assert " 0 computed" in summary, f"the store should have held all: {summary}"
    return seconds, flops


def memory(arguments: list[str], folder: str, name: str) -> int:
    """Peak bytes of a process that does nothing but some steps of one way."""
    command = [sys.executable, "-m", "scripts.bench.train", *arguments, "--memory-of", name, folder]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.splitlines()[-1])


def report(
    ways: Ways, seconds: dict[str, list[float]], flops: dict[str, int], peaks: dict[str, int], reached: Ceiling
) -> tuple[str, float]:
    """The figures as Markdown, and how many times the README's step the loop is that finds its reference errors.

    Args:
        ways: what was timed.
        seconds: a step, by way and round.
        flops: operations a step, by way.
        peaks: bytes, by way.
        reached: what the device reaches, in the same run.
    """
    config = ways.config
    pairs, sheet = config.training.pairs_per_step, peak(ways.device, config.training.precision)
    lines = [
        f"- {hardware(ways.device, config.threads)}",
        f"- {subject(config)}, on both sides",
        f"- {len(seconds[PUBLIC])} rounds in turns; median [least, most] over rounds; 'that without' checkpointing",
        f"- {reached.line(sheet)}",
        "",
        "| way | pairs/s | times the README's | times that without | TFLOP/s | of ceiling | of sheet | memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ratio = 0.0
    for name, each in seconds.items():
        ratio, against_readme = _ratio(seconds[README], each)
        _, against_bare = _ratio(seconds[PUBLIC], each)
        speed = statistics.median(pairs / one for one in each)
        achieved = flops[name] / statistics.median(each)
        of_sheet = f"{achieved / sheet:.0%}" if sheet else "–"
        lines.append(
            f"| {name} | {speed:.1f} | {against_readme} | {against_bare} | {achieved / 1e12:.3g} "
            f"| {achieved / reached.best:.0%} | {of_sheet} | {peaks[name] / 2**20:,.0f} MiB |"
        )
    if ways.device.type != "cuda":
        lines += ["", "Time is of the processor, all threads. Not measured on a GPU."]
    return "\n".join(lines), ratio


def _ratio(public: list[float], ours: list[float]) -> tuple[float, str]:
    """The median ratio of rounds, and it as text with the range."""
    ratios = [theirs / own for theirs, own in zip(public, ours, strict=True)]
    median = statistics.median(ratios)
    return median, f"{median:.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=2, help="in a row, of each way in each round")
    parser.add_argument("--least", type=float, default=0.0, help="fail below this ratio of medians")
    parser.add_argument("--out", type=Path, help="write the figures there, too")
    parser.add_argument("--memory-of", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Run the bench; 1 when the ratio is too low."""
    arguments = read_arguments()
    config = configuration(arguments)
    if arguments.memory_of:
        way, place = arguments.memory_of
        ways = Ways(config, Path(place))
        step = ways.way(way)
        for number in range(3):
            step(number)
        print(ways.peak_bytes())
        return 0
    with tempfile.TemporaryDirectory() as folder:
        prepare_artefacts(config, Path(folder))
        ways = Ways(config, Path(folder))
        seconds, flops = timed(ways, arguments.rounds, arguments.steps)
        reached = ceiling(ways.device, config.training.precision, ways.clock)
        peaks = {name: memory(sys.argv[1:], folder, name) for name in WAYS}
    text, ratio = report(ways, seconds, flops, peaks, reached)
    print(text)
    if arguments.out:
        title = (
            "# The training loop beside a step of the public Diffusion-DPO script\n\nWritten by `make bench-train`.\n"
        )
        arguments.out.write_text(f"{title}\n{text}\n", encoding="utf-8")
    if ratio < arguments.least:
        print(f"\nthe ratio {ratio:.2f} is below {arguments.least:g}")
    return int(ratio < arguments.least)


if __name__ == "__main__":
    sys.exit(main())
