"""Columns of true and false in a list of pairs, which say something about each row.

``data.only`` says which rows are used, ``data.judge_agrees`` whether a judge agrees with the label. Such a column is
read beside the reader, because rows of these layouts have the numbers of the table's rows. So no reader needs to know
of it, and a layout that makes several pairs of a row, or has no columns, is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from qsd.data.json_lines import json_lines
from qsd.data.listed import shown
from qsd.data.parquet import open_parquet, parquet_files, stream
from qsd.data.text_table import TextTable
from qsd.errors import UserError
from qsd.registry import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from qsd.data.pairs import SourceRow
    from qsd.data.source import PairSource

LEFT_OUT = "left_out"
"""The reason of a row whose cell is false."""
CONFIRMED = "judge_agrees"
"""The column of ``pairs.parquet`` with the cells of ``data.judge_agrees``, where it is given."""
READERS = ("own_pairs", "pickapic", "table")
"""Those of tables of which every row is one row of the source."""
_VALUES = {"true": True, "false": False}
"""Cells of text files, in any case: pandas writes True and False."""
_STREAMED_ROWS = 4096


@dataclass(frozen=True)
class _Column:
    """A column, and the setting that names it."""

    name: str
    setting: str

    def __str__(self) -> str:
        return f"column '{self.name}' of {self.setting}"


class OnlyRows:
    """A source in which rows whose cell is false are no pairs, of reason ``left_out``.

    Args:
        source: all rows.
        reader: its layout.
        path: file or folder of the source.
        column: of true and false.
    """

    def __init__(self, source: PairSource, reader: str, path: Path, column: str) -> None:
        self._source = source
        self._place = reader, path, column
        self._used: list[bool] | None = None

    def __len__(self) -> int:
        return len(self._source)

    def rows(self, start: int, stop: int) -> Iterator[SourceRow]:
        """See :meth:`qsd.data.source.PairSource.rows`.

        Raises:
            UserError: as ``used_rows``, or the column has another number of rows than the source.
        """
        if self._used is None:  # read when a row is asked for: stages that only fetch images do not need it
            self._used = used_rows(*self._place)
            if len(self._used) != len(self):
                raise UserError(
                    f"{self._place[1]}: column '{self._place[2]}' of data.only has {len(self._used)} rows, the source "
                    f"{len(self)}; did the file change?"
                )
        for row in self._source.rows(start, stop):
            yield row if self._used[row.number] else replace(row, problem=LEFT_OUT)

    def image_bytes(self, number: int) -> tuple[bytes, bytes]:
        """See :meth:`qsd.data.source.PairSource.image_bytes`."""
        return self._source.image_bytes(number)


def check_column(reader: str, path: Path, column: str, setting: str = "data.only") -> None:
    """Refuse a column that is not there, or that cannot hold true and false, without reading the rows.

    Raises:
        UserError: with file and column.
    """
    wanted = _Column(column, setting)
    _check_reader(reader, wanted)
    for file in _files(path):
        if file.suffix == ".parquet":
            _check_parquet(file, wanted)
        elif file.suffix == ".jsonl":
            for line, item in json_lines(file):
                _check_present(f"{file}:{line}", list(item), wanted)
                break
        else:
            _check_present(f"{file}:1", TextTable(file).header, wanted)


def used_rows(reader: str, path: Path, column: str, setting: str = "data.only") -> list[bool]:
    """The cells of the rows of the source; true for a row that is damaged, whose problem its reader reports.

    Args:
        reader: layout of the source.
        path: file or folder of the source.
        column: of true and false.
        setting: that names the column, for messages.

    Raises:
        UserError: a layout without columns of this kind, no such column, or a cell that is not true or false; with the
            file, the column and the row.
    """
    wanted = _Column(column, setting)
    _check_reader(reader, wanted)
    return [used for file in _files(path) for used in _of_file(file, wanted)]


def _check_reader(reader: str, column: _Column) -> None:
    if reader not in READERS:
        raise UserError(
            f"{column.setting} is '{column.name}', but rows of data.reader {reader} are not rows of a table with "
            f"columns; leave it out, or use data.reader: {' or '.join(READERS)}"
        )


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else parquet_files(path)


def _of_file(path: Path, column: _Column) -> Iterable[bool]:
    if path.suffix == ".parquet":
        return _of_parquet(path, column)
    return _of_json(path, column) if path.suffix == ".jsonl" else _of_text(path, column)


def _of_parquet(path: Path, column: _Column) -> Iterator[bool]:
    _check_parquet(path, column)
    file, number = open_parquet(path), 0
    for group in range(file.metadata.num_row_groups):
        for batch in stream(file, path, group, [column.name], _STREAMED_ROWS, number):
            for row in batch:
                yield _boolean(f"{path}: row {number}", column, row[column.name])
                number += 1


def _of_text(path: Path, column: _Column) -> Iterator[bool]:
    table = TextTable(path)
    _check_present(f"{path}:1", table.header, column)
    place = table.header.index(column.name)
    for row in table.rows():
        cell = "true" if row.problem else row.cells[place]
        yield _boolean(f"{path}:{row.line}", column, _VALUES.get(cell.strip().lower(), cell))


def _of_json(path: Path, column: _Column) -> Iterator[bool]:
    for line, item in json_lines(path):
        _check_present(f"{path}:{line}", list(item), column)
        yield _boolean(f"{path}:{line}", column, item[column.name])


def _boolean(place: str, column: _Column, value: object) -> bool:
    if not isinstance(value, bool):
        is_text = isinstance(value, str)
        given = "null" if value is None else "empty" if value == "" else shown(repr(value) if is_text else value)[:40]
        raise UserError(f"{place}: {column} must be true or false, not {given}")
    return value


def _check_parquet(path: Path, column: _Column) -> None:
    import pyarrow as pa

    schema = open_parquet(path).schema_arrow
    _check_present(str(path), schema.names, column)
    kind = schema.field(column.name).type
    if not pa.types.is_boolean(kind):
        raise UserError(f"{path}: {column} must hold true or false, not {kind}")


def _check_present(place: str, present: Sequence[str], column: _Column) -> None:
    if column.name not in present:
        have = shown(", ".join(present)) or "nothing"
        raise UserError(f"{place}: {column}{suggest(column.name, present)} is not there; it has {have}")
