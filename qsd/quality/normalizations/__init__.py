"""Normalisations of psi before a quality metric: raw, min-max, percentile rank. One file per member."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    NormalizationFunction = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Normalization:
    """A normalisation of scores over a data set.

    Attributes:
        function: scores of all distinct (image, caption) of the data set [M] -> normalised scores [M], float64.
        version: raised whenever the same inputs give other values.
    """

    function: NormalizationFunction
    version: int = 1


REGISTRY: Registry[Normalization] = Registry("normalization", "qsd.quality.normalizations", "NORMALIZATION")
