"""The worst share of the pairs by Q: a control whose sign is known beforehand."""

from __future__ import annotations

import numpy as np

from qsd.selection.order import KeptAmount, best_first, kept_count
from qsd.selection.strategies import Candidates, Chosen, Strategy


def bottom_k(pairs: Candidates, settings: KeptAmount) -> Chosen:
    """The K pairs of lowest Q, lowest first, weight 1; ties by pair id. K = count, or round(N · fraction / 100)."""
    rows = best_first(-pairs.quality, pairs.pair_ids, kept_count(len(pairs.quality), settings))
    return Chosen(rows, np.ones(len(rows)))


STRATEGY = Strategy(bottom_k, KeptAmount)
