"""The scores that a reward model must compute: every distinct (image, caption) once, in the order of reading."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from qsd.files import texts

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from qsd.data.distinct import Distinct


@dataclass(frozen=True)
class Requests:
    """M scores to compute, ordered so that every image is decoded once and the source is read from front to back.

    Attributes:
        images: [M] number of the image in its source (``qsd.data.images.ImageSource``).
        captions: [M] caption texts.
        item: [M] index among the distinct (image, caption).
    """

    images: NDArray[np.int64]
    captions: pa.ChunkedArray[Any]
    item: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.item)

    def pieces(self, size: int) -> list[tuple[int, int]]:
        """(start, stop) of about ``size`` requests each, in order; no image's requests are in two of them."""
        import numpy as np

        new = np.ones(len(self) + 1, dtype=bool)
        new[1:-1] = np.diff(self.images) != 0
        begins = np.flatnonzero(new)  # the end of all requests counts as one
        bounds = np.unique(begins[np.searchsorted(begins, np.arange(0, len(self) + size, size).clip(max=len(self)))])
        return [(int(start), int(stop)) for start, stop in pairwise(bounds)]

    def captions_of(self, start: int, stop: int) -> list[str]:
        """Captions of the requests ``start`` to ``stop - 1``."""
        return texts(self.captions.slice(start, stop - start))


def requests_of(pairs: pa.Table, numbers: Distinct) -> Requests:
    """The requests of ``pairs`` (with source_row and caption), by the first place of the image, then of the item.

    Images have the numbers of ``qsd.data.images.pair_image_number``.
    """
    import numpy as np

    count = pairs.num_rows
    first_of_image, first_of_item = _first(numbers.image), _first(numbers.item)
    met = first_of_image[numbers.image[numbers.one]]
    item = np.argsort(met * (2 * count) + first_of_item)
    row, is_loser = np.divmod(met[item], 2)
    return Requests(
        images=2 * pairs["source_row"].to_numpy()[row] + is_loser,
        captions=pairs["caption"].take(numbers.one[item] % max(count, 1)),
        item=item,
    )


def requests_in_order(captions: pa.ChunkedArray[Any]) -> Requests:
    """One request for each of M images that a source numbers from 0 to M - 1, with its caption."""
    import numpy as np

    numbers = np.arange(len(captions))
    return Requests(numbers, captions, numbers)


def _first(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each number [2N] stands first along the source, which has winner and loser of a pair next to each other."""
    import numpy as np

    along = numbers.reshape(2, -1).T.ravel()
    first = np.empty(int(along.max(initial=-1)) + 1, dtype=np.int64)
    first[along[::-1]] = np.arange(len(along))[::-1]
    return first
