"""Normalisations of psi before a quality metric. One file per member.

The default is ``raw``: the paper's formula is on the scores of HPS v2 themselves and names no normalisation, cosines of
captions with images are in [0, 1] already, and scores of another unit are refused with a message rather than changed
silently. The others change the weight of the two factors of ``product``: on raw cosines near 0.3 the winner's
score counts about 2.6 times the loser's; spread over [0, 1] both count the same in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.quality.domains import REALS
from qsd.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from qsd.quality.domains import Domain

    NormalizationFunction = Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Normalization:
    """A normalisation of scores over a data set.

    Attributes:
        function: (scores of all distinct (image, caption) of the data set [M], number of the prompt of each [M]) ->
            normalised scores [M], float64.
        image: the interval that contains the result for any scores.
        relative: False when the result for a score does not depend on the others.
        version: raised whenever the same inputs give other values.
    """

    function: NormalizationFunction
    image: Domain = REALS
    relative: bool = True
    version: int = 1


REGISTRY: Registry[Normalization] = Registry("normalization", "qsd.quality.normalizations", "NORMALIZATION")
