"""What a reader gives: a data set that streams its rows and gives random access to the images of a row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qsd.config.schema import DataConfig
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


class FirstRows:
    """The first rows of a source, as if there were no others."""

    def __init__(self, source: PairSource, count: int) -> None:
        self._source = source
        self._count = min(count, len(source))

    def __len__(self) -> int:
        return self._count

    def rows(self, start: int, stop: int) -> Iterator[SourceRow]:
        """See :meth:`PairSource.rows`."""
        return self._source.rows(start, min(stop, self._count))

    def image_bytes(self, number: int) -> tuple[bytes, bytes]:
        """See :meth:`PairSource.image_bytes`."""
        return self._source.image_bytes(number)


def open_source(config: DataConfig) -> PairSource:
    """The source that an experiment names.

    Raises:
        UserError: nothing there, or not in the layout of the reader.
    """
    from qsd.data.readers import REGISTRY

    source = REGISTRY.get(config.reader).open(Path(config.path))
    return source if config.max_rows is None else FirstRows(source, config.max_rows)
