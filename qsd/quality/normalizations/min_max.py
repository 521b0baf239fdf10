"""Scores stretched over [0, 1] by the extremes of the data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.quality.domains import UNIT_INTERVAL
from qsd.quality.normalizations import Normalization

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def min_max(scores: NDArray[np.float64], _prompts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(ψ - min) / (max - min), in [0, 1]; 0.5 everywhere when all scores are equal. One outlier compresses the rest."""
    low, high = scores.min(), scores.max()
    if high == low:
        return scores * 0.0 + 0.5
    result: NDArray[np.float64] = (scores - low) / (high - low)
    return result


NORMALIZATION = Normalization(min_max, image=UNIT_INTERVAL)
