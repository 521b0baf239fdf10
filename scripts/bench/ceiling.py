"""The speed that a device reaches in matrix products or convolutions alone, as an upper bound for a training step.

A data sheet's peak assumes a clock rate that no long run sustains. This is measured in the same run as the training.
Both kinds are tried, since libraries differ: on AMD's processors, PyTorch's products in fp32 (MKL) reach half of what
its convolutions (oneDNN) do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import conv2d

from qsd.models.precision import torch_type

TURNS = 5
LEAST_SECONDS = 0.2
"""Of one turn."""
SIDES = {"cuda": 8192, "cpu": 1024}
"""Of the matrices: large enough to fill the device, small enough for a bench."""
IMAGES = {"cuda": (64, 512, 64), "cpu": (32, 160, 8)}
"""Batch, channels and height of the convolution, 3 x 3."""


@dataclass(frozen=True)
class Ceiling:
    """FLOP/s of products of two square matrices, and of 3 x 3 convolutions."""

    products: float
    convolutions: float

    @property
    def best(self) -> float:
        """The higher of the two."""
        return max(self.products, self.convolutions)

    def line(self, sheet: float | None) -> str:
        """For a report; ``sheet`` is the data sheet's FLOP/s."""
        stated = f"the data sheet says {sheet / 1e12:.0f}" if sheet else "no data sheet of this device is known"
        return (
            f"matrix products alone reach {self.products / 1e12:.3g} TFLOP/s in the same run, convolutions "
            f"{self.convolutions / 1e12:.3g}; the higher one is the ceiling; {stated}"
        )


def ceiling(device: torch.device, precision: str, clock: Callable[[], float]) -> Ceiling:
    """Measure it, the best of ``TURNS`` turns.

    Args:
        device: where.
        precision: ``training.precision``; TF32 only if PyTorch is configured for it.
        clock: seconds, read when the device has done what it was given.
    """
    dtype = torch_type(precision)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device).to(dtype)

    side = SIDES[device.type]
    left, right = random(side, side), random(side, side)
    batch, channels, height = IMAGES[device.type]
    images, kernel = random(batch, channels, height, height), random(channels, channels, 3, 3)
    return Ceiling(
        products=2 * side**3 / _seconds(lambda: torch.mm(left, right), clock),
        convolutions=2
        * batch
        * height**2
        * 9
        * channels**2
        / _seconds(lambda: conv2d(images, kernel, padding=1), clock),
    )


def _seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Of one call, in the best turn."""

    def turn(count: int) -> float:
        begin = clock()
        for _ in range(count):
            work()
        return max(clock() - begin, 1e-9)

    turn(1)
    count = max(1, round(LEAST_SECONDS / turn(1)))
    return min(turn(count) for _ in range(TURNS)) / count
