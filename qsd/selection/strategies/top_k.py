"""The best share of the pairs by Q: the QSD paper's selection."""

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


def top_k(
    quality: NDArray[np.float64], pair_ids: Sequence[str], settings: SelectionConfig, _uniform: NDArray[np.float64]
) -> Chosen:
    """The K = round(N · fraction / 100) pairs of highest Q, weight 1; ties by pair id.

    Source: Singh, Khanna, Moturi, "Effective Text-to-Image Alignment with Quality Aware Pair Ranking", 2024.
    """
    rows = best_first(quality, pair_ids, kept_count(len(quality), settings.fraction))
    return rows, np.ones(len(rows))


STRATEGY = Strategy(top_k)
