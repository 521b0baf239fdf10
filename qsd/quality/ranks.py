"""Average ranks: equal values have the same rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def share_below(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(average rank - 1/2) / N [N], in (0, 1): the share of the values below, equal ones counted half."""
    import numpy as np

    order = np.argsort(values)
    ordered = values[order]
    begins = np.ones(len(values), dtype=bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(begins)
    stops = np.append(starts[1:], len(values))
    shares = np.empty(len(values))
    shares[order] = np.repeat((starts + stops) / 2 / len(values), stops - starts)
    return shares
