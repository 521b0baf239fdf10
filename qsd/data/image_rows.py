"""Data sets whose images lie in the rows of parquet files: rows are streamed, images are found again by row."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qsd.data.parquet import check_columns, open_parquet, stream
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow.parquet as pq

    from qsd.data.pairs import SourceRow
    from qsd.data.parquet import Column

_STREAMED_ROWS = 16
_KEPT_BATCHES = 4

Row = dict[str, Any]


@dataclass(frozen=True)
class RowLayout:
    """What the rows of such a data set are.

    Attributes:
        required: column -> what it must hold.
        optional: further columns, which are read where they exist, and what they must hold.
        choice: the columns that decide which image is the winner, and the two images.
        row: number and values -> the row.
    """

    required: Mapping[str, Column]
    optional: Mapping[str, Column]
    choice: tuple[str, ...]
    row: Callable[[int, Row], SourceRow]


@dataclass(frozen=True)
class _Group:
    """One row group: its file, its place in it, and its first row in the whole source."""

    path: Path
    index: int
    start: int
    rows: int


class ImageRows:
    """A :class:`qsd.data.source.PairSource` over parquet files; a few batches of rows are in memory at a time.

    Args:
        files: in the order of their rows.
        layout: what the rows are.

    Raises:
        UserError: a file is unreadable, or lacks a column.
    """

    def __init__(self, files: Sequence[Path], layout: RowLayout) -> None:
        self._layout = layout
        self._groups: list[_Group] = []
        self._batches: OrderedDict[int, list[Row]] = OrderedDict()
        self._forward: tuple[int, Iterator[tuple[int, list[Row]]]] | None = None
        self._opened: tuple[Path, pq.ParquetFile] | None = None
        total = 0
        for file in files:
            metadata, schema = self._file(file).metadata, self._file(file).schema_arrow
            present = {name: column for name, column in layout.optional.items() if name in schema.names}
            check_columns(file, schema, {**layout.required, **present})
            for index in range(metadata.num_row_groups):
                rows = metadata.row_group(index).num_rows
                self._groups.append(_Group(file, index, total, rows))
                total += rows
        self._total = total
        self._starts = [group.start for group in self._groups]

    def __len__(self) -> int:
        return self._total

    def rows(self, start: int, stop: int) -> Iterator[SourceRow]:
        """See :meth:`qsd.data.source.PairSource.rows`."""
        for group in self._groups:
            if group.start + group.rows <= start or group.start >= stop:
                continue
            for first, batch in self._stream(group, (*self._layout.required, *self._layout.optional)):
                for number, values in enumerate(batch, first):
                    if start <= number < stop:
                        yield self._layout.row(number, values)

    def image_bytes(self, number: int) -> tuple[bytes, bytes]:
        """See :meth:`qsd.data.source.PairSource.image_bytes`."""
        if not 0 <= number < self._total:
            raise UserError(f"source row {number}: the data set has {self._total} rows; run the data stage again")
        place = bisect.bisect_right(self._starts, number) - 1
        row = self._layout.row(number, self._values(place, number))
        if row.problem or not row.winner or not row.loser:
            raise UserError(f"{self._groups[place].path}: row {number} is no pair any more; run the data stage again")
        return row.winner, row.loser

    def _values(self, place: int, number: int) -> Row:
        """One row. Going forward reads on; going back beyond the kept batches reads the row group again."""
        for first, batch in self._batches.items():
            if first <= number < first + len(batch):
                return batch[number - first]
        newest = next(reversed(self._batches), number + 1)
        if self._forward is None or self._forward[0] != place or number < newest:
            self._forward = (place, self._stream(self._groups[place], self._layout.choice))
        for first, batch in self._forward[1]:
            self._batches[first] = batch
            self._batches.move_to_end(first)
            if len(self._batches) > _KEPT_BATCHES:
                self._batches.popitem(last=False)
            if number < first + len(batch):
                return batch[number - first]
        path = self._groups[place].path
        raise UserError(f"{path}: row {number} is not there any more; run the data stage again")

    def _stream(self, group: _Group, wanted: tuple[str, ...]) -> Iterator[tuple[int, list[Row]]]:
        """(number of the first row, rows) of a row group, batch by batch."""
        file, first = self._file(group.path), group.start
        columns = [name for name in wanted if name in file.schema_arrow.names]
        for batch in stream(file, group.path, group.index, columns, _STREAMED_ROWS, first):
            yield first, batch
            first += len(batch)

    def _file(self, path: Path) -> pq.ParquetFile:
        if self._opened is None or self._opened[0] != path:
            self._opened = (path, open_parquet(path))
        return self._opened[1]
