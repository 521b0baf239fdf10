"""rates.jsonl: how fast an attempt trains, a row every few steps; beside its log, since artefacts hold no times."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from qsd.training.jsonl_log import JsonlLog

if TYPE_CHECKING:
    from pathlib import Path

    from qsd.training.throughput import Throughput

FILE = "rates.jsonl"


class ThroughputLog:
    """Each row is about the time since the row before, validation and checkpoints in it included.

    Args:
        folder: of the attempt; None writes nothing.
        rates: count the work of this process.
        processes: that share the work alike.
    """

    def __init__(self, folder: Path | None, rates: Throughput, processes: int) -> None:
        self._log = JsonlLog(folder / FILE if folder else None, 0)
        self._rates = rates
        self._processes = processes
        self._reached = (time.monotonic(), rates.trained, rates.flops)
        self._steps = 0

    def add(self, steps: int) -> None:
        """The row after ``steps`` steps, written at once: pairs/s and FLOP/s of all processes, share of peak of each.

        The device must have caught up, and the rates must know of all passes. Nothing is written twice for a step.
        """
        if steps == self._steps:
            return
        now = (time.monotonic(), self._rates.trained, self._rates.flops)
        seconds, trained, flops = (new - old for new, old in zip(now, self._reached, strict=True))
        per_second = 1 / max(seconds, 1e-9)
        self._log.add(
            {
                "steps": steps,
                "pairs_per_second": trained * per_second * self._processes,
                "flops_per_second": flops * per_second * self._processes,
                "share_of_peak": flops * per_second / self._rates.peak if self._rates.peak else math.nan,
            }
        )
        self._log.flush()
        self._reached, self._steps = now, steps

    def close(self) -> None:
        """Close the file."""
        self._log.close()
