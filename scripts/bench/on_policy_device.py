"""An update of TailorPO and of TailorPO-G on a device: time by part, and peak memory.

    .venv/bin/python -m scripts.bench.on_policy_device --device cuda --size sd15 FOLDER --out FILE
    .venv/bin/python -m scripts.bench.on_policy_device --device cpu --set method.prompts_per_step=4

One batch of prompts at a time; the first update is not timed. Parts: *sampling* and *ranking* are passes of the network
(the pass that ranks a winner is the one that draws its next step, and counts as ranking), *decoding and scoring* is
what Eq. 12 asks of VAE and reward model, *guidance* moves winners with everything that takes, *training* is the loss
with its backward pass, and *the rest* is noise and text. Waiting for the device between the parts costs some time.
"""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from qsd.config.schema import ExperimentConfig
from qsd.training.onpolicy.candidates import CandidatesMethod
from scripts.bench.on_policy import clock
from scripts.bench.on_policy_subject import add_arguments, configuration, load_line, open_method, subject
from scripts.bench.training_subject import hardware

METHODS = ("tailorpo", "tailorpo_g")
SAMPLING, RANKING, SCORING, GUIDANCE, TRAINING, REST = PARTS = (
    "sampling",
    "ranking",
    "decoding and scoring",
    "guidance",
    "training",
    "the rest",
)


class PartTimer:
    """Seconds by part; a part inside another one is not counted in that.

    Args:
        device: whose clock counts.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._device = device
        self._stack = [REST]
        self._since = clock(device)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Everything inside belongs to ``name``, except inside guidance, which keeps what it takes."""
        self._charge()
        self._stack.append(GUIDANCE if self._stack[-1] == GUIDANCE else name)
        try:
            yield
        finally:
            self._charge()
            self._stack.pop()

    def start(self) -> None:
        """Begin at 0."""
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._since = clock(self._device)

    def stop(self) -> dict[str, float]:
        """Seconds by part since ``start``."""
        self._charge()
        return self.seconds

    def inside(self, name: str) -> bool:
        """Whether the present part is that."""
        return self._stack[-1] == name

    def _charge(self) -> None:
        now = clock(self._device)
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now


def watched(method: CandidatesMethod) -> PartTimer:
    """Time the parts of a method from now on."""
    timer = PartTimer(method.device)

    def wrap(owner: Any, name: str, part: Callable[[], str]) -> None:
        original = getattr(owner, name)

        def timed(*given: Any, **named: Any) -> Any:
            with timer.part(part()):
                return original(*given, **named)

        setattr(owner, name, timed)

    wrap(method, "_candidates", lambda: RANKING)
    wrap(method, "_moved", lambda: GUIDANCE)
    wrap(method, "accumulate", lambda: TRAINING)
    wrap(method.sampler, "sampled", lambda: RANKING if timer.inside(RANKING) else SAMPLING)
    wrap(method.sampler, "noise", lambda: REST)
    wrap(method.reward, "score", lambda: SCORING)
    return timer


def measured(config: ExperimentConfig, updates: int) -> tuple[dict[str, float], int | None]:
    """Seconds of an update by part, the mean over ``updates``, and peak bytes of a GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    method = open_method(config)
    timer = watched(method)
    method.step(0)
    timer.start()
    for number in range(1, updates + 1):
        method.step(number)
    seconds = timer.stop()
    memory = torch.cuda.max_memory_allocated() if method.device.type == "cuda" else None
    return {name: each / updates for name, each in seconds.items()}, memory


def report(configs: dict[str, ExperimentConfig], updates: int) -> Iterator[str]:
    """The page below its title, line by line."""
    from qsd.device import prepare

    first = next(iter(configs.values()))
    device = torch.device(prepare(first.device, first.threads))
    yield f"- {hardware(device, first.threads)}"
    before = os.getloadavg()[0]
    yield f"- {subject(first)}; {updates} updates timed"
    yield ""
    yield f"| method | s of an update | {' | '.join(PARTS)} | peak memory |"
    yield f"|{'---|' * (len(PARTS) + 3)}"
    for name, config in configs.items():
        seconds, memory = measured(config, updates)
        total = sum(seconds.values())
        parts = " | ".join(f"{one:.3g} ({one / total:.0%})" for one in seconds.values())
        peak = f"{memory / 2**30:.1f} GiB" if memory else "–"
        yield f"| {name} | {total:.3g} | {parts} | {peak} |"
    yield ""
    yield f"- {load_line((before, os.getloadavg()[0]))}"
    if device.type != "cuda":
        yield "- time is of the processor, all threads"


def main() -> None:
    """Print the page, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--updates", type=int, default=3, help="timed, of each method")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    configs = {name: configuration(given, name) for name in METHODS}
    lines = ["# An update of TailorPO by part", "", "Written by `python -m scripts.bench.on_policy_device`.", ""]
    for line in report(configs, given.updates):
        print(line, flush=True)
        lines.append(line)
    if given.out:
        given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
