"""A share of the pairs drawn without replacement, better pairs more likely."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qsd.selection.order import best_first, kept_count
from qsd.selection.strategies import Strategy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from qsd.config.schema import SelectionConfig
    from qsd.selection.strategies import Chosen


def weighted_sampling(
    quality: NDArray[np.float64], pair_ids: Sequence[str], settings: SelectionConfig, uniform: NDArray[np.float64]
) -> Chosen:
    """K = round(N · fraction / 100) pairs drawn with odds exp(z / temperature), z the standardised Q; weight 1.

    Every pair gets the key z / temperature + g, g = -log(-log u) from its own uniform number u, and the K highest keys
    are kept: the Gumbel form of Efraimidis and Spirakis, "Weighted random sampling with a reservoir" (2006). Smaller
    fractions are subsets. Temperature to 0 gives ``top_k``, to infinity ``random``.
    """
    ascending = np.sort(quality)  # a sum over sorted numbers does not depend on the order of the rows
    spread = ascending.std()
    z = (quality - ascending.mean()) / spread if spread > 0 else np.zeros(len(quality))
    gumbel = -np.log(-np.log(np.maximum(uniform, np.finfo(np.float64).tiny)))
    keys = z / settings.temperature + gumbel
    rows = best_first(keys, pair_ids, kept_count(len(quality), settings.fraction))
    return rows, np.ones(len(rows))


STRATEGY = Strategy(weighted_sampling, fields=("fraction", "temperature"), stochastic=True)
