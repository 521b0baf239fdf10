"""The protocol of a reader's result: a data set that streams its rows and gives random access to images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qsd.data.pairs import SourceRow


class PairSource(Protocol):
    """A data set of preference pairs; holds a few row groups in memory, never all images."""

    def __len__(self) -> int:
        """Number of rows, including those that are not pairs."""

    def rows(self, start: int, stop: int) -> Iterator[SourceRow]:
        """Stream the rows ``start`` to ``stop - 1``.

        Raises:
            UserError: the source is damaged in this range.
        """

    def image_bytes(self, number: int) -> tuple[bytes, bytes]:
        """File bytes of winner and loser of a row that is a pair; cheap if rows are requested in order.

        Raises:
            UserError: the row is no longer a pair, because the source has changed.
        """
