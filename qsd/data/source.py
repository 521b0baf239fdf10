"""What a reader gives: a data set that streams its rows and gives random access to the images of a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qsd.data.pairs import SourceRow


class PairSource(Protocol):
    """A data set of preference pairs; holds a few row groups in memory, never all images."""

    def __len__(self) -> int:
        """Rows, pairs or not."""

    def rows(self, start: int, stop: int) -> Iterator[SourceRow]:
        """Rows ``start`` to ``stop - 1``, streamed.

        Raises:
            UserError: the source is damaged there.
        """

    def image_bytes(self, number: int) -> tuple[bytes, bytes]:
        """File bytes of winner and loser of a row that is a pair; cheap when rows are asked for in order.

        Raises:
            UserError: the row is no pair any more; the source has changed.
        """
