"""How fast a training is: units/s (pairs, choices, …), achieved FLOP/s, and the share of what the hardware can do.

Operations are counted once, on one unit, by PyTorch's own counter (matrix products, convolutions and attention; two
per multiply-add), and multiplied by what the training has done. These figures go to the log of the attempt and, row by
row, to its ``rates.jsonl``; they are no part of an artefact, whose bytes must not depend on the machine.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from qsd.training.jsonl_log import JsonlLog
from qsd.training.metrics import RATES

PEAKS: tuple[tuple[str, float, float], ...] = (
    (r"\bH200\b", 989e12, 67e12),
    (r"\bH100 (80GB HBM3|SXM)", 989e12, 67e12),
    (r"\bH100 PCIe\b", 756e12, 51e12),
    (r"\bA100\b", 312e12, 19.5e12),
    (r"\bL40S\b", 362e12, 91.6e12),
    (r"\bL4\b", 121e12, 30.3e12),
    (r"\bA10\b", 125e12, 31.2e12),
    (r"\bRTX 4090\b", 165.2e12, 82.6e12),
    (r"\bRTX 3090\b", 71e12, 35.6e12),
)
"""Pattern of a GPU's name, dense bf16 peak, fp32 peak without tensor cores; FLOP/s of NVIDIA's data sheets."""


def peak(device: torch.device, precision: str) -> float | None:
    """Peak FLOP/s of a device in a ``training.precision``; None for a CPU and for a GPU that is not in ``PEAKS``."""
    return peak_of(torch.cuda.get_device_name(device), precision) if device.type == "cuda" else None


def peak_of(name: str, precision: str) -> float | None:
    """The peak of a GPU with this name."""
    for pattern, bf16, fp32 in PEAKS:
        if re.search(pattern, name):
            return fp32 if precision == "fp32" else bf16
    return None


def count_flops(work: Callable[[], object]) -> int:
    """Floating-point operations of one call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


@dataclass
class Throughput:
    """Work since the clock was started, on this process.

    Attributes:
        unit: what a step is counted in, such as ``pairs``.
        train_flops: operations of one unit's forward and backward pass; 0 is not counted.
        forward_flops: operations of one unit's forward pass without gradients.
        peak: of the device, FLOP/s; None is not known.
        trained: units that went forward and backward.
        forwarded: passes of a unit without gradients: reference, moving averages, statistics, validation.
        started: when the clock was started.
    """

    unit: str
    train_flops: int = 0
    forward_flops: int = 0
    peak: float | None = None
    trained: int = 0
    forwarded: int = 0
    started: float = 0.0

    def start(self) -> None:
        """Start the clock."""
        self.started = time.monotonic()

    @property
    def flops(self) -> int:
        """Operations so far."""
        return self.trained * self.train_flops + self.forwarded * self.forward_flops

    def flops_per_second(self, seconds: float) -> float:
        """Achieved FLOP/s."""
        return self.flops / seconds

    def text(self, processes: int = 1) -> str:
        """``38.2 pairs/s, 0.021 TFLOP/s`` and, where the peak is known, its share; the device must have caught up."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate = f"{self.trained * processes / seconds:.1f} {self.unit}/s"
        if not self.train_flops:
            return rate
        achieved = self.flops_per_second(seconds)
        share = f", {100 * achieved / self.peak:.1f} % of peak" if self.peak else ""
        each = " each" if processes > 1 else ""
        return f"{rate}, {achieved / 1e12:.3g} TFLOP/s{each}{share}"


class ThroughputLog:
    """``rates.jsonl``: how fast an attempt trains, a row every few steps.

    Each row is about the time since the row before, validation and checkpoints in it included.

    Args:
        folder: of the attempt; None writes nothing.
        throughput: counts the work of this process.
        processes: that share the work equally.
    """

    def __init__(self, folder: Path | None, throughput: Throughput, processes: int) -> None:
        self._log = JsonlLog(folder / RATES if folder else None, 0)
        self._throughput = throughput
        self._processes = processes
        self._reached = self._now()
        self._steps = 0

    def add(self, steps: int) -> None:
        """The row after ``steps`` steps, written at once: units/s and FLOP/s of all processes, share of peak of each.

        The device must have caught up, and the throughput must know of all passes. Nothing is written twice for a step.
        """
        if steps == self._steps:
            return
        now = self._now()
        seconds, trained, flops = (new - old for new, old in zip(now, self._reached, strict=True))
        per_second, peak_flops = 1 / max(seconds, 1e-9), self._throughput.peak
        counted = bool(self._throughput.train_flops)
        self._log.add(
            {
                "steps": steps,
                f"{self._throughput.unit}_per_second": trained * per_second * self._processes,
                "flops_per_second": flops * per_second * self._processes if counted else math.nan,
                "share_of_peak": flops * per_second / peak_flops if counted and peak_flops else math.nan,
            }
        )
        self._log.flush()
        self._reached, self._steps = now, steps

    def close(self) -> None:
        """Close the file."""
        self._log.close()

    def _now(self) -> tuple[float, int, int]:
        return time.monotonic(), self._throughput.trained, self._throughput.flops
