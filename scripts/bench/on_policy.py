"""make bench-onpolicy: an update of TailorPO against a straightforward loop without batches, in one run.

    .venv/bin/python -m scripts.bench.on_policy [--experiment FILE] [--set name=value]... [--rounds N] [--out FILE]

Both make the same updates from the same noise, in turns, so that whatever else the machine does hits both alike: first
it is checked that winners and gradients agree, then updates are timed, forward and backward, without the optimiser. On
a CPU, time is of the processor. Exit status 1 when the ratio is below ``--least`` or the results differ.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from qsd.training.onpolicy.candidates import CandidatesMethod
from scripts.bench.on_policy_loop import Pair, PlainLoop
from scripts.bench.on_policy_subject import (
    Counts,
    add_arguments,
    configuration,
    counted,
    load_line,
    open_method,
    subject,
)
from scripts.bench.training_subject import hardware

LOOP, METHOD = "loop without batches", "this project"
TOLERANCE = 1e-4
"""Largest difference of a winner's latents, and of the gradients as a share of their length."""


def clock(device: torch.device) -> float:
    """Seconds: on the wall once a GPU has done what it was given; of the processor, all threads, on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def same_results(method: CandidatesMethod, loop: PlainLoop, number: int) -> tuple[float, float]:
    """Make an update in both ways; the largest difference of winners, and that of the gradients as a share.

    Raises:
        SystemExit: they differ by more than ``TOLERANCE``.
    """
    pairs = loop.update(number)
    expected = _taken_gradient(method)
    method.step(number)
    gradient = _taken_gradient(method)
    assert method._batch is not None
    samples = method._batch[1]
    of_prompts = range(len(pairs))
    steps = range(len(method.trained))
    ordered = [pairs[prompt][step] for step in steps for prompt in of_prompts]
    winners = _difference(samples.winner, ordered, [pair.winner for pair in ordered])
    share = float((gradient - expected).norm() / expected.norm())
    used = samples.used.tolist() == [pair.used for pair in ordered]
    if winners > TOLERANCE or not share <= TOLERANCE or not used:
        raise SystemExit(
            f"the two ways differ: winners by {winners:.2g}, gradients by {share:.2g} of their length, the same pairs "
            f"are used: {used}"
        )
    return winners, share


def _difference(samples: Tensor, pairs: list[Pair], values: list[Tensor]) -> float:
    assert len(samples) == len(pairs)
    return float((samples - torch.cat(values)).abs().max())


def _taken_gradient(method: CandidatesMethod) -> Tensor:
    """The gradient of all parameters, [N], which is removed."""
    parts = [
        torch.zeros_like(item).flatten() if item.grad is None else item.grad.flatten()
        for item in method.parameters.values()
    ]
    for item in method.parameters.values():
        item.grad = None
    return torch.cat(parts)


def timed(method: CandidatesMethod, loop: PlainLoop, rounds: int, first: int) -> dict[str, list[float]]:
    """Seconds of a prompt-trajectory, by way and round."""
    ways = {LOOP: loop.update, METHOD: method.step}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds):
        for name in list(ways) if round_ % 2 else list(ways)[::-1]:
            begin = clock(method.device)
            ways[name](first + round_)
            seconds[name].append((clock(method.device) - begin) / method.settings.prompts_per_step)
            _taken_gradient(method)
    return seconds


def minimum(method: CandidatesMethod) -> tuple[int, int]:
    """The fewest passes of an update, (without gradients, with): see ``MINIMUM``."""
    settings, guided = method.settings, 2 if method.sampler.guided else 1
    ranked = sum(step + 1 < method.sampler.steps for step in method.ranked)
    images = method.sampler.steps + (settings.candidates - 1) * ranked + len(method.trained)
    count = guided * settings.prompts_per_step
    return count * images, count * len(method.trained)


MINIMUM = (
    "The minimum: every state that sampling visits is predicted once, every rejected candidate once to be ranked (none "
    "after the last step), and every trained state once more by the reference, and once with gradients; guidance "
    "doubles all of it. Keeping the graph of sampling for training would save one pass of each trained state, at the "
    "price of the memory of all graphs at once."
)


def report(
    method: CandidatesMethod,
    seconds: dict[str, list[float]],
    counts: dict[str, Counts],
    differences: tuple[float, float],
    loads: tuple[float, float],
) -> tuple[str, float]:
    """The figures as Markdown, and how many times as fast as the loop the method is, the median over rounds."""
    device = method.device
    agreement = (
        f"- both ways make the same update: winners differ by at most {differences[0]:.1g}, gradients by "
        f"{differences[1]:.1g} of their length"
    )
    lines = [
        f"- {hardware(device, method.config.threads)}",
        f"- {load_line(loads)}",
        f"- {subject(method.config)}",
        agreement,
        f"- {len(seconds[LOOP])} rounds in turns; median [least, most] over rounds",
        "",
        "| way | ms of a prompt-trajectory | times the loop | network calls | passes | passes with gradients |",
        "|---|---|---|---|---|---|",
    ]
    ratio = 0.0
    for name, each in seconds.items():
        ratios = [slow / own for slow, own in zip(seconds[LOOP], each, strict=True)]
        ratio = statistics.median(ratios)
        count = counts[name]
        lines.append(
            f"| {name} | {_range([1000 * one for one in each], '.0f')} | {_range(ratios, '.2f')} "
            f"| {count.calls} | {count.passes} | {count.trained_passes} |"
        )
    least = minimum(method)
    lines += [f"| minimum | | | | {least[0]} | {least[1]} |", "", f"Counts are of an update. {MINIMUM}"]
    if device.type != "cuda":
        lines += ["", "Time is of the processor, all threads."]
    return "\n".join(lines), ratio


def _range(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} [{min(values):{form}}, {max(values):{form}}]"


def main() -> int:
    """Run the bench; 1 when the ratio is too low."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--least", type=float, default=0.0, help="fail below this ratio of medians")
    parser.add_argument("--out", type=Path, help="write the figures there, too")
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    method = open_method(configuration(arguments, "tailorpo"))
    loop = PlainLoop(method)
    differences = same_results(method, loop, 0)
    counts = {LOOP: counted(method, lambda: loop.update(1)), METHOD: counted(method, lambda: method.step(1))}
    _taken_gradient(method)
    seconds = timed(method, loop, arguments.rounds, first=2)
    text, ratio = report(method, seconds, counts, differences, (before, os.getloadavg()[0]))
    print(text)
    if arguments.out:
        title = "# An update of TailorPO beside a loop without batches\n\nWritten by `make bench-onpolicy`.\n"
        arguments.out.write_text(f"{title}\n{text}\n", encoding="utf-8")
    if ratio < arguments.least:
        print(f"\nthe ratio {ratio:.2f} is below {arguments.least:g}")
    return int(ratio < arguments.least)


if __name__ == "__main__":
    sys.exit(main())
