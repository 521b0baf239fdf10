"""The best pairs of every stratum, so that the selection has the mix of the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsd.config.fields import meaning
from qsd.selection.order import KeptAmount, best_first, kept_count
from qsd.selection.strategies import Candidates, Chosen, Strategy


@dataclass
class Settings(KeptAmount):
    """How many pairs to keep, and what the strata are."""

    prompt_clusters: int | None = meaning(
        None, "strata are so many clusters of captions; null: the styles that captions name", least=2, most=1000
    )


def stratified_top_k(pairs: Candidates, settings: Settings) -> Chosen:
    """The K pairs that stand highest within their own stratum, best Q first, weight 1.

    The pair of rank r = 1, 2, … by Q among the n of its stratum stands at (r - 1/2) / n; the K lowest are kept, equal
    ones by Q, then by pair id. That gives every stratum its share of K rounded by Webster's method (Sainte-Laguë:
    Balinski and Young, "Fair Representation", 1982), and smaller K are subsets, which largest remainders do not
    promise. K = count, or round(N · fraction / 100). The strata are in ``qsd.selection.strata``.
    """
    order = best_first(pairs.quality, pairs.pair_ids, len(pairs.quality))
    _, stratum, sizes = np.unique(pairs.stratum[order], return_inverse=True, return_counts=True)
    grouped = np.argsort(stratum, kind="stable")
    rank = np.empty(len(order))
    rank[grouped] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    standing = (2 * rank + 1) / (2 * sizes[stratum])
    kept = np.argsort(standing, kind="stable")[: kept_count(len(order), settings)]
    return Chosen(order[np.sort(kept)], np.ones(len(kept)))


STRATEGY = Strategy(stratified_top_k, Settings, uses_strata=True)
