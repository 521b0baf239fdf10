"""The worst share of the pairs by Q: a control whose sign is known beforehand."""

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


def bottom_k(
    quality: NDArray[np.float64], pair_ids: Sequence[str], settings: SelectionConfig, _uniform: NDArray[np.float64]
) -> Chosen:
    """The K = round(N · fraction / 100) pairs of lowest Q, lowest first, weight 1; ties by pair id."""
    rows = best_first(-quality, pair_ids, kept_count(len(quality), settings.fraction))
    return rows, np.ones(len(rows))


STRATEGY = Strategy(bottom_k)
