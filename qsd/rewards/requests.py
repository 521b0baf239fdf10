"""The scores that a set of pairs needs: every distinct (image, caption) once, in the order of reading."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from qsd.files import texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from qsd.data.distinct import Distinct
    from qsd.data.pairs import Side


@dataclass(frozen=True)
class Requests:
    """M scores to compute, ordered so that every image is decoded once and the source is read from front to back.

    Attributes:
        source_rows: [M] first source row that has the image.
        winners: [M] true if the image is the winner of that row.
        captions: [M] caption texts.
        item: [M] index among the distinct (image, caption).
    """

    source_rows: NDArray[np.int64]
    winners: NDArray[np.bool_]
    captions: pa.ChunkedArray[Any]
    item: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.item)

    def images(self, start: int, stop: int) -> Iterator[tuple[int, Side]]:
        """(source row, side) of the requests ``start`` to ``stop - 1``."""
        for row, is_winner in zip(self.source_rows[start:stop], self.winners[start:stop], strict=True):
            yield int(row), "winner" if is_winner else "loser"

    def pieces(self, size: int) -> list[tuple[int, int]]:
        """(start, stop) of about ``size`` requests each, in order; no image's requests are in two of them."""
        import numpy as np

        new = np.ones(len(self) + 1, dtype=bool)
        new[1:-1] = (np.diff(self.source_rows) != 0) | (self.winners[1:] != self.winners[:-1])
        begins = np.flatnonzero(new)  # the end of all requests counts as one
        bounds = np.unique(begins[np.searchsorted(begins, np.arange(0, len(self) + size, size).clip(max=len(self)))])
        return [(int(start), int(stop)) for start, stop in pairwise(bounds)]

    def captions_of(self, start: int, stop: int) -> list[str]:
        """Captions of the requests ``start`` to ``stop - 1``."""
        return texts(self.captions.slice(start, stop - start))


def requests_of(pairs: pa.Table, found: Distinct) -> Requests:
    """The requests of ``pairs`` (with source_row and caption), by the first place of the image, then of the item."""
    import numpy as np

    count = pairs.num_rows
    first_of_image, first_of_item = _first(found.image), _first(found.item)
    met = first_of_image[found.image[found.one]]
    item = np.argsort(met * (2 * count) + first_of_item)
    row, is_loser = np.divmod(met[item], 2)
    return Requests(
        source_rows=pairs["source_row"].to_numpy()[row],
        winners=is_loser == 0,
        captions=pairs["caption"].take(found.one[item] % max(count, 1)),
        item=item,
    )


def requests_in_order(captions: pa.ChunkedArray[Any]) -> Requests:
    """One for each of M images that are not of pairs: image i is the winner of row i."""
    import numpy as np

    places = np.arange(len(captions))
    return Requests(places, np.ones(len(captions), dtype=bool), captions, places)


def _first(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each number [2N] stands first along the source, which has winner and loser of a pair next to each other."""
    import numpy as np

    along = numbers.reshape(2, -1).T.ravel()
    first = np.empty(int(along.max(initial=-1)) + 1, dtype=np.int64)
    first[along[::-1]] = np.arange(len(along))[::-1]
    return first
