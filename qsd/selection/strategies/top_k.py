"""The best share of the pairs by Q: the QSD paper's selection."""

from __future__ import annotations

import numpy as np

from qsd.selection.order import KeptAmount, best_first, kept_count
from qsd.selection.strategies import Candidates, Chosen, Strategy


def top_k(pairs: Candidates, settings: KeptAmount) -> Chosen:
    """The K pairs of highest Q, weight 1; ties by pair id. K = count, or round(N · fraction / 100).

    Source: Singh, Khanna, Moturi, "Effective Text-to-Image Alignment with Quality Aware Pair Ranking", 2024.
    """
    rows = best_first(pairs.quality, pairs.pair_ids, kept_count(len(pairs.quality), settings))
    return Chosen(rows, np.ones(len(rows)))


STRATEGY = Strategy(top_k, KeptAmount)
