"""Orders and counts that do not depend on the order of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


def kept_count(total: int, fraction: float) -> int:
    """K = round(total * fraction / 100), at least 1; ``fraction`` in percent."""
    return max(1, round(total * fraction / 100))


def best_first(values: NDArray[np.float64], pair_ids: Sequence[str], count: int) -> NDArray[np.int64]:
    """Rows of the ``count`` highest values, highest first; equal values by ascending pair id."""
    import numpy as np

    if count < len(values):
        least = np.partition(values, len(values) - count)[len(values) - count]
        rows = np.flatnonzero(values >= least)
    else:
        rows = np.arange(len(values))
    order = rows[np.argsort(-values[rows], kind="stable")]
    _by_pair_id_where_equal(order, values[order], pair_ids)
    return order[:count].astype(np.int64)


def _by_pair_id_where_equal(order: NDArray[np.int64], values: NDArray[np.float64], pair_ids: Sequence[str]) -> None:
    """Sort runs of equal values by pair id, in place; only tied rows pay for comparing text."""
    import numpy as np

    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    starts, stops = np.concatenate([[0], changes]), np.concatenate([changes, [len(values)]])
    for start, stop in zip(starts[stops - starts > 1], stops[stops - starts > 1], strict=True):
        order[start:stop] = sorted(order[start:stop], key=pair_ids.__getitem__)
