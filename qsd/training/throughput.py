"""How fast a training is: pairs/s, achieved FLOP/s, and the share of what the hardware can do.

Operations are counted once, on one pair, by PyTorch's own counter (matrix products, convolutions and attention; two
per multiply-add), and multiplied by what the loop has done. These go to the log of the attempt and, row by row, to its
``rates.jsonl``; they are no part of an artefact, whose bytes must not depend on the machine.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

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
    """Peak FLOP/s of the device in ``fp32`` or ``bf16``; None for a CPU and for a GPU that ``PEAKS`` does not list."""
    import torch

    return peak_of(torch.cuda.get_device_name(device), precision) if device.type == "cuda" else None


def peak_of(name: str, precision: str) -> float | None:
    """The peak of a GPU with this name."""
    for pattern, bf16, fp32 in PEAKS:
        if re.search(pattern, name):
            return bf16 if precision == "bf16" else fp32
    return None


def count_flops(work: Callable[[], object]) -> int:
    """Floating-point operations of one call."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


@dataclass
class Throughput:
    """Work since it was made, on this process.

    Attributes:
        train_flops: operations of one pair's forward and backward pass.
        forward_flops: operations of one pair's forward pass without gradients.
        peak: of the device; None is not known.
        trained: pairs that went forward and backward.
        forwarded: passes of a pair without gradients: reference, moving averages, statistics, validation.
        started: when the clock was started.
    """

    train_flops: int
    forward_flops: int
    peak: float | None
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
        achieved = self.flops_per_second(seconds)
        share = f", {100 * achieved / self.peak:.1f} % of peak" if self.peak else ""
        each = " each" if processes > 1 else ""
        return f"{self.trained * processes / seconds:.1f} pairs/s, {achieved / 1e12:.3g} TFLOP/s{each}{share}"
