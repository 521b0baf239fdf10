"""The logistic function of the z-score: scores in (0, 1), where outliers saturate instead of compressing the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.quality.domains import OPEN_UNIT_INTERVAL
from qsd.quality.normalizations import Normalization

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def sigmoid_z(scores: NDArray[np.float64], _prompts: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-(ψ - mean) / std)), in (0, 1); 0.5 everywhere when all scores are equal.

    Mean and population standard deviation are those of the data set. One deviation above the mean is 0.73, two 0.88;
    rounding makes 37 exactly 1.
    """
    import numpy as np
    from scipy.special import expit

    ordered = np.sort(scores)  # so that the order of the rows does not matter, not even to the last digit
    deviation = ordered.std()
    if ordered[0] == ordered[-1] or deviation == 0:
        return np.full(len(scores), 0.5)
    values: NDArray[np.float64] = expit((scores - ordered.mean()) / deviation)
    return values


NORMALIZATION = Normalization(sigmoid_z, image=OPEN_UNIT_INTERVAL)
