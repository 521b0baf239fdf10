"""Scores replaced by their rank in the data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.quality.domains import OPEN_UNIT_INTERVAL
from qsd.quality.normalizations import Normalization
from qsd.quality.ranks import share_below

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def percentile_rank(scores: NDArray[np.float64], _prompts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of the scores below ψ, equal ones counted half: (average rank - 1/2) / M, in (0, 1).

    Keeps the order and not the spacing, so units and outliers do not matter.
    """
    return share_below(scores)


NORMALIZATION = Normalization(percentile_rank, image=OPEN_UNIT_INTERVAL)
