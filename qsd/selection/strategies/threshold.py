"""All pairs whose Q reaches a bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qsd.errors import UserError
from qsd.selection.order import best_first
from qsd.selection.strategies import Strategy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from qsd.config.schema import SelectionConfig
    from qsd.selection.strategies import Chosen


def threshold(
    quality: NDArray[np.float64], pair_ids: Sequence[str], settings: SelectionConfig, _uniform: NDArray[np.float64]
) -> Chosen:
    """The pairs with Q >= ``selection.threshold``, best first, weight 1; Q in the unit of the metric.

    Raises:
        UserError: no pair reaches the bound.
    """
    count = int((quality >= settings.threshold).sum())
    if count == 0:
        raise UserError(
            f"selection.threshold {settings.threshold:g} keeps no pair: the highest Q is {quality.max():.6g}"
        )
    return best_first(quality, pair_ids, count), np.ones(count)


STRATEGY = Strategy(threshold, fields=("threshold",))
