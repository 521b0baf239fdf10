"""A random share of the pairs: the control that knows nothing of Q."""

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


def random(
    _quality: NDArray[np.float64], pair_ids: Sequence[str], settings: SelectionConfig, uniform: NDArray[np.float64]
) -> Chosen:
    """The K = round(N · fraction / 100) pairs of lowest uniform number, weight 1: smaller fractions are subsets."""
    rows = best_first(-uniform, pair_ids, kept_count(len(uniform), settings.fraction))
    return rows, np.ones(len(rows))


STRATEGY = Strategy(random, uses_quality=False, stochastic=True)
