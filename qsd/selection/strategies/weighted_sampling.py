"""Pairs drawn at random, better pairs more likely, with or without replacement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qsd.config.fields import meaning
from qsd.selection.order import KeptAmount, Temperature, best_first, kept_count, standardised
from qsd.selection.strategies import Candidates, Chosen, Strategy

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass
class Settings(KeptAmount, Temperature):
    """How many pairs to draw, how much more likely better ones are, and whether a pair can be drawn again."""

    replacement: bool = meaning(False, "weighted sampling may draw a pair again; its weight is how often")


def weighted_sampling(pairs: Candidates, settings: Settings) -> Chosen:
    """K pairs drawn with odds exp(z / temperature), z the standardised Q. K = count, or round(N · fraction / 100).

    Without replacement, every pair gets the key z / temperature + g, g = -log(-log(1 - u)) from its own uniform number
    u, and the K highest keys are kept, weight 1: the Gumbel form of Efraimidis and Spirakis, "Weighted random sampling
    with a reservoir" (2006). Smaller K are subsets. Temperature to 0 gives ``top_k``, to infinity the very pairs of
    ``random``: both lean to low u, so that a comparison of the two is of Q, not of chance.

    With replacement (``selection.replacement``), K independent draws; a pair that is drawn m times is kept once with
    weight m. The weight carries the repeats because two uses of a pair in one epoch would share timestep and noise, so
    that a repeated row would cost a pass and add nothing. The rows are the distinct pairs, at most K, best Q first.
    """
    z = standardised(pairs.quality) / settings.temperature
    count = kept_count(len(z), settings)
    if settings.replacement:
        return _with_replacement(pairs, z, count)
    gumbel = -np.log(np.maximum(-np.log1p(-pairs.uniform), np.finfo(np.float64).tiny))
    rows = best_first(z + gumbel, pairs.pair_ids, count)
    return Chosen(rows, np.ones(len(rows)))


def _with_replacement(pairs: Candidates, z: NDArray[np.float64], count: int) -> Chosen:
    """Draws by inversion: the j-th best pair's uniform number, taken through the distribution in the order of Q."""
    order = best_first(pairs.quality, pairs.pair_ids, len(z))
    odds = np.cumsum(np.exp(z[order] - z.max()))
    drawn = np.searchsorted(odds, pairs.uniform[order[:count]] * odds[-1], side="right")
    times = np.bincount(np.minimum(drawn, len(z) - 1), minlength=len(z))
    kept = np.flatnonzero(times)
    return Chosen(order[kept].astype(np.int64), times[kept].astype(np.float64))


STRATEGY = Strategy(weighted_sampling, Settings, stochastic=True, version=2)
