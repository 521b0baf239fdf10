"""A pool of pairs that grows while a training goes on, as a pure function of the position in the stream.

The stream runs in epochs. An epoch that begins after a share p of the training holds the pairs that are open by then,
each once; the next begins where it ends. So a pair is used at most once in an epoch, and the epoch of a position
follows from the position alone, also after an interruption.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def available_from(count: int, start: float, full: float) -> NDArray[np.float64]:
    """When the pairs of ranks 0 … count - 1 enter the pool, as shares of the training [count] in [0, full], ascending.

    At the share p of the training, start + (1 - start) · min(1, p / full) of the pairs are in, at least one.

    Args:
        count: number of pairs.
        start: share of the pairs that are in from the start, in (0, 1].
        full: share of the training at which all are in, in (0, 1].
    """
    import numpy as np

    share = np.arange(1, count + 1) / count
    growing = (share > start) & (np.arange(count) > 0)
    return np.where(growing, np.minimum(full, full * (share - start) / (1 - start if start < 1 else 1)), 0.0)


class Epochs:
    """Where the epochs of a stream begin and how many pairs each holds.

    Args:
        available_from: ascending shares of the training from which on the pairs take part [N].
        positions: length of the training, in positions of the stream.
    """

    def __init__(self, available_from: NDArray[np.float64], positions: int) -> None:
        import numpy as np

        self.count = len(available_from)
        self._starts: list[int] = []
        self._sizes: list[int] = []
        start, size = 0, 0
        while size < self.count and start < max(positions, 1):
            size = max(1, int(np.searchsorted(available_from, start / max(positions, 1), side="right")))
            self._starts.append(start)
            self._sizes.append(size)
            start += size

    def locate(self, position: int) -> tuple[int, int, int]:
        """(epoch, place in it, its number of pairs) of a position; an epoch holds the first pairs of the ranking."""
        last = len(self._starts) - 1
        if position >= self._starts[last]:
            more, place = divmod(position - self._starts[last], self._sizes[last])
            return last + more, place, self._sizes[last]
        epoch = bisect.bisect_right(self._starts, position) - 1
        return epoch, position - self._starts[epoch], self._sizes[epoch]
