"""Intervals: the scores on which a metric is defined, and the values that a normalisation gives."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Domain:
    """An interval of the real line.

    Attributes:
        name: as messages write it, for example ``[0, 1]``.
        low: lower end.
        high: upper end.
        closed: whether finite ends belong to the interval.
    """

    name: str
    low: float = -inf
    high: float = inf
    closed: bool = False

    def outside(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """[N] true for values outside the interval; False for NaN, which is counted elsewhere."""
        if self.closed:
            return (values < self.low) | (values > self.high)
        return (values <= self.low) | (values >= self.high)

    def within(self, other: Domain) -> bool:
        """Whether the whole interval is inside ``other``."""
        if not (other.low <= self.low and self.high <= other.high):
            return False
        touches = (self.low == other.low > -inf) or (self.high == other.high < inf)
        return other.closed or not self.closed or not touches


REALS = Domain("any number")
POSITIVE = Domain("(0, ∞)", low=0.0)
UNIT_INTERVAL = Domain("[0, 1]", 0.0, 1.0, closed=True)
OPEN_UNIT_INTERVAL = Domain("(0, 1)", 0.0, 1.0)
