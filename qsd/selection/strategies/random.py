"""A random share of the pairs: the control that knows nothing of Q."""

from __future__ import annotations

import numpy as np

from qsd.selection.order import KeptAmount, best_first, kept_count
from qsd.selection.strategies import Candidates, Chosen, Strategy


def random(pairs: Candidates, settings: KeptAmount) -> Chosen:
    """The K pairs of lowest uniform number, weight 1. K = count, or round(N · fraction / 100); smaller K: subsets."""
    rows = best_first(-pairs.uniform, pairs.pair_ids, kept_count(len(pairs.uniform), settings))
    return Chosen(rows, np.ones(len(rows)))


STRATEGY = Strategy(random, KeptAmount, uses_quality=False, stochastic=True)
