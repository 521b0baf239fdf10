"""An estimate from records: each one's time is taken apart into a fixed start-up and a time per item of work."""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from ablations.cost.model_estimate import STARTUP_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ablations.cost.timings import Timing
    from qsd.stages.stage_spec import Work

NEAREST = 5
"""Records that an estimate is the median of, those nearest in the amount of work."""
_STARTUP_SHARE = 0.9
"""Where records are of one size, start-up is at least this share of their time, or STARTUP_S if that is less; ..."""
_LONGEST_STARTUP_S = 60.0
"""... and at most this: what a record took longer was work, however little the model says."""
_APART = 2.0
"""Two records tell a time per item if the work of one is so many times that of the other."""
_VISIBLE = 0.5
"""The time per item is measured if the largest record's work takes this share of the quickest record's time."""
_HIDDEN = 0.05
"""Where it is not: a time per item of so small a share could not have been seen in the records."""


@dataclass(frozen=True)
class Destination:
    """Where the work is to be done.

    Attributes:
        on_slurm: on a cluster.
        on_gpu: True: records of a CPU do not count, False: nor do those of a GPU; None: it makes no difference.
    """

    on_slurm: bool
    on_gpu: bool | None


@dataclass(frozen=True)
class RecordEstimate:
    """What records say of some work.

    Attributes:
        parts: (start-up, seconds per item in one process) by each of the nearest records.
        size: bytes of the artefact.
        same_place: whether the records are of the place where the work is to be done.
        modelled: whether the time per item is the cost model's, as the records are too small to show it.
    """

    parts: tuple[tuple[float, float], ...]
    size: float
    same_place: bool
    modelled: bool

    @property
    def records(self) -> int:
        """How many records it comes from."""
        return len(self.parts)

    def seconds(self, amount: float, processes: int = 1) -> float:
        """Time until ``amount`` is done by processes that share it equally and start together."""
        return median(start + rate * amount / processes for start, rate in self.parts)

    def mostly_modelled(self, amount: float, processes: int = 1) -> bool:
        """Whether most of :meth:`seconds` is the cost model's."""
        return self.modelled and median(start for start, _ in self.parts) < self.seconds(amount, processes) / 2


def estimate_from_records(
    timings: Sequence[Timing], work: Work, place: Destination, modelled_rate: float
) -> RecordEstimate | None:
    """What records say of ``work``, or None if none of them is comparable. Those of the same place come first.

    Args:
        timings: records of a kind of stage.
        work: what is to be done.
        place: where.
        modelled_rate: seconds per item in one process by the cost model, for records that do not show it.
    """
    comparable = [timing for timing in timings if timing.work.comparable_key == work.comparable_key]
    same_device = [timing for timing in comparable if place.on_gpu in (None, timing.on_gpu)]
    same_place = [timing for timing in same_device if timing.on_slurm == place.on_slurm]
    usable = same_place or same_device
    if not usable:
        return None
    points = [_point(timing) for timing in usable]
    rate, modelled = _rate(points, modelled_rate)
    nearest = heapq.nsmallest(NEAREST, usable, key=lambda timing: abs(math.log(timing.work.amount / work.amount)))
    return RecordEstimate(
        parts=tuple(_parts(*_point(timing), rate) for timing in nearest),
        size=work.output_size * median([timing.size / timing.work.output_size for timing in nearest]),
        same_place=bool(same_place),
        modelled=modelled,
    )


def _point(timing: Timing) -> tuple[float, float]:
    """(work, seconds) of a record for each process that was started for it."""
    return timing.work.amount / timing.starts, timing.seconds / timing.starts


def _parts(amount: float, seconds: float, rate: float) -> tuple[float, float]:
    """(start-up, seconds per item) that together give the record's own time, neither of them below zero."""
    start = max(0.0, seconds - rate * amount)
    return start, (seconds - start) / amount


def _rate(points: Sequence[tuple[float, float]], modelled: float) -> tuple[float, bool]:
    """Seconds per item, and whether they are the cost model's.

    The median of the slopes between records of different size, which some records of a busy machine do not move. Where
    start-up hides the work, or all records are of one size, it is the model's, as far as the records allow it.
    """
    pairs = itertools.permutations(points, 2)
    slopes = [(more[1] - less[1]) / (more[0] - less[0]) for less, more in pairs if more[0] >= _APART * less[0]]
    quickest, most = min(seconds for _, seconds in points), max(amount for amount, _ in points)
    if slopes:
        slope = max(0.0, median(slopes))
        if slope * most >= _VISIBLE * quickest:
            return slope, False
        least, bound = 0.0, max(2 * slope, _HIDDEN * quickest / most)
    else:
        least = median(max(0.0, seconds - _LONGEST_STARTUP_S) / amount for amount, seconds in points)
        bound = median((seconds - min(STARTUP_S, _STARTUP_SHARE * seconds)) / amount for amount, seconds in points)
    return min(max(least, modelled), bound), least <= modelled <= bound
