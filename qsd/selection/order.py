"""Orders and counts that do not depend on the order of the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.config.fields import meaning
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


@dataclass
class KeptAmount:
    """How many pairs to keep, for strategies that keep a share or a number of them."""

    fraction: float = meaning(
        5.33, "percent of the pairs to keep; 5.33 is the headline of the QSD paper", above=0, most=100
    )
    count: int | None = meaning(None, "pairs to keep; when it is given, fraction is not read", least=1)


@dataclass
class Temperature:
    """How strongly Q acts, for strategies that draw or weigh by the standardised Q."""

    temperature: float = meaning(1.0, "of sampling or weighting by standardised Q; 0 tends to the best alone", above=0)


def kept_count(total: int, settings: KeptAmount) -> int:
    """K: ``count`` where it is set, else round(total · fraction / 100), at least 1; ``fraction`` in percent.

    Raises:
        UserError: there are fewer pairs than ``count``.
    """
    if settings.count is None:
        return max(1, round(total * settings.fraction / 100))
    if settings.count > total:
        raise UserError(f"selection.count is {settings.count}, but there are {total} pairs to select from; lower it")
    return settings.count


def best_first(values: NDArray[np.float64], pair_ids: Sequence[str], count: int) -> NDArray[np.int64]:
    """Rows of the ``count`` highest values, highest first; equal values by ascending pair id."""
    import numpy as np

    if count < len(values):
        least = np.partition(values, len(values) - count)[len(values) - count]
        rows = np.flatnonzero(values >= least)
    else:
        rows = np.arange(len(values))
    order = rows[np.argsort(-values[rows])]
    _by_pair_id_where_equal(order, values[order], pair_ids)
    return order[:count].astype(np.int64)


def _by_pair_id_where_equal(order: NDArray[np.int64], values: NDArray[np.float64], pair_ids: Sequence[str]) -> None:
    """Sort runs of equal values by pair id, in place; only tied rows pay for comparing text."""
    import numpy as np

    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    starts, stops = np.concatenate([[0], changes]), np.concatenate([changes, [len(values)]])
    for start, stop in zip(starts[stops - starts > 1], stops[stops - starts > 1], strict=True):
        order[start:stop] = sorted(order[start:stop], key=pair_ids.__getitem__)


def standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(value - mean) / population standard deviation [N]; 0 everywhere when all are equal."""
    import numpy as np

    ascending = np.sort(values)  # a sum over sorted numbers does not depend on the order of the rows
    spread = ascending.std()
    return (values - ascending.mean()) / spread if spread > 0 else np.zeros(len(values))
