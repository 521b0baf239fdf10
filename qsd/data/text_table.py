"""The one reader of tables in text files: prompts and lists of one's own pairs, as CSV or separated by tabs.

It is strict, because what a lenient reader does with a forgotten quotation mark or an unquoted comma (it drops the rest
of a caption, or glues lines together) is a wrong result without a word. Cells are counted, and a row that is none is
named by the line on which it begins. There is no limit to the length of a cell.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.data.lfs import pointer_hint
from qsd.errors import UserError
from qsd.registry import suggest
from qsd.regular_files import check_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PROBLEMS = {
    "wrong_cell_count": "not as many cells as the first line has columns; put texts with commas in double quotes",
    "stray_quote": "a quotation mark inside a cell, or one that is not closed; put the text in double quotes and write "
    'each quotation mark in it twice, as in "a ""red"" dog"',
}
"""Why a line is no row -> its explanation."""

_QUOTED = re.compile(r'"([^"]*(?:""[^"]*)*)"')
_MOST_LINES_OF_A_ROW = 200
"""A quotation mark that is never closed would otherwise take the rest of the file."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class TextRow:
    """One row.

    Attributes:
        line: on which it begins, from 1.
        cells: as many as there are columns; empty if the row has a problem.
        problem: a key of :data:`PROBLEMS`, or None.
        count: how many cells a row of problem ``wrong_cell_count`` has.
    """

    line: int
    cells: tuple[str, ...]
    problem: str | None = None
    count: int = 0


class TextTable:
    """A table with a header, in UTF-8; ``.tsv`` is separated by tabs, all else by commas.

    In a file with tabs quotation marks mean themselves, except around a whole cell; a cell has no line break there.

    Args:
        path: the file.

    Attributes:
        header: names of the columns, from the first line; empty for an empty file.

    Raises:
        UserError: the file cannot be read, is not UTF-8, or a column is there twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tabs = path.suffix.lower() == ".tsv"
        self._lines = text_lines(path)
        _, first = next(self._lines, (1, ""))
        self.header = [name.strip() for name in self._cells(first) or [first]] if first else []
        twice = sorted({name for name in self.header if self.header.count(name) > 1})
        if "" in twice:
            raise UserError(f"{path}:1: {self.header.count('')} columns have no name; take them out, in every line")
        if twice:
            raise UserError(f"{path}:1: column '{twice[0]}' is there twice")

    def require(self, columns: Sequence[str]) -> None:
        """Check that columns exist.

        Raises:
            UserError: one is missing.
        """
        for name in columns:
            if name not in self.header:
                if pointer := pointer_hint(self.path):
                    raise UserError(f"{self.path}: {pointer}")
                have = ", ".join(self.header) or "nothing"
                hint = "; it is separated by semicolons, save it with commas" if ";" in have else ""
                if self.header[:1] and self.header[0].startswith("sep="):
                    hint = "; a line sep= is for Excel alone: take it out"
                raise UserError(
                    f"{self.path}:1: column '{name}'{suggest(name, self.header)} is missing; the first line has "
                    f"{have}{hint}"
                )

    def rows(self) -> Iterator[TextRow]:
        """All rows after the header, empty lines left out.

        Raises:
            UserError: a byte that is not UTF-8; with its line.
        """
        waiting: deque[tuple[int, str]] = deque()
        while True:
            if not waiting:
                following = next(self._lines, None)
                if following is None:
                    return
                waiting.append(following)
            line, text = waiting.popleft()
            if text:
                yield self._row(line, text, waiting)

    def _row(self, line: int, text: str, waiting: deque[tuple[int, str]]) -> TextRow:
        cells = self._cells(text)
        if cells is None and not self._tabs and _is_open(text):
            cells = self._over_lines(text, waiting)
        if cells is None:
            return TextRow(line, (), "stray_quote")
        if len(cells) != len(self.header):
            return TextRow(line, (), "wrong_cell_count", len(cells))
        return TextRow(line, tuple(cells))

    def _over_lines(self, text: str, waiting: deque[tuple[int, str]]) -> list[str] | None:
        """Cells of a row with line breaks in it; None, and the other lines stay in ``waiting``, if it is none."""
        taken = [text]
        for place in range(_MOST_LINES_OF_A_ROW):
            if place == len(waiting):
                following = next(self._lines, None)
                if following is None:
                    return None
                waiting.append(following)
            taken.append(waiting[place][1])
            if '"' not in taken[-1]:
                continue
            whole = "\n".join(taken)
            cells = self._cells(whole)
            if cells is not None:
                # Each line has as many commas as a row of its own: rows that a forgotten quotation mark would glue.
                if all(one.count(",") == len(self.header) - 1 for one in taken):
                    return None
                for _ in range(place + 1):
                    waiting.popleft()
                return cells
            if not _is_open(whole):
                return None
        return None

    def _cells(self, text: str) -> list[str] | None:
        """The cells of a row, or None where its quotation marks do not fit."""
        if self._tabs:
            return [_unquoted(cell) for cell in text.split("\t")]
        if '"' not in text:
            return text.split(",")
        cells, place = [], 0
        while True:
            if text.startswith('"', place):
                quoted = _QUOTED.match(text, place)
                if quoted is None:
                    return None
                cells.append(quoted[1].replace('""', '"'))
                end = quoted.end()
            else:
                end = text.find(",", place)
                end = len(text) if end < 0 else end
                if '"' in text[place:end]:
                    return None
                cells.append(text[place:end])
            if end == len(text):
                return cells
            if text[end] != ",":
                return None
            place = end + 1


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of every line, without its end; a byte order mark is no part of the first.

    Raises:
        UserError: the file cannot be read, is not UTF-8 or has a NUL byte; with the line and the first byte that is
            wrong.
    """
    check_regular(path)
    try:
        with path.open("rb") as stream:
            if stream.read(2) in _UTF_16:
                raise UserError(f"{path}:1: UTF-16; save it as UTF-8")
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if "\0" in line:
                    raise UserError(f"{path}:{number}: a NUL byte, which no text has; is it UTF-16? Save it as UTF-8")
                yield number, line.removesuffix("\n")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise _not_utf8(path) from None


def _not_utf8(path: Path) -> UserError:
    """Which line is not UTF-8: the decoder reads ahead and does not know it."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return UserError(
                    f"{path}:{number}: not UTF-8 (byte 0x{line[error.start]:02x}; is it Latin-1 or Windows-1252?); "
                    "save it as UTF-8"
                )
    return UserError(f"{path}: not UTF-8; save it as UTF-8")


def _is_open(text: str) -> bool:
    """Whether the last quoted cell of a row lacks its closing quotation mark."""
    return text.count('"') % 2 == 1


def _unquoted(cell: str) -> str:
    """A cell without the quotation marks around it, if it is one that a program quoted."""
    quoted = _QUOTED.fullmatch(cell)
    return quoted[1].replace('""', '"') if quoted else cell
