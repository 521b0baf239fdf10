"""The result table on a terminal, from the written ``rows.json`` alone, so that it shows at once."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from analysis.data.rows import FILE, read_rows
from analysis.data.sweep import read_sweep
from analysis.document.build import build_document
from analysis.document.categories import marked_count
from analysis.document.formatting import break_lines, pieces
from analysis.document.model import Notes, Table, unstyled
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from analysis.document.model import Column as TableColumn
    from analysis.document.model import Document, Note, Section, TableCell

_WIDTH = 110
"""Columns where the text goes to no terminal."""
_LEAST_WIDTH = 80
"""Tables of a narrower terminal would break numbers."""
_NAME_WIDTH = 22
_LEAST_HEADING = 12
_LEAST_NAME, _MOST_NAME = 10, 44
_MOST_CATEGORY_LINES = 40
"""A longer table by category would push the results off the screen: table.md has it."""
_INDENT = "  "
_DIFFERENCES = ("versus_baseline", "versus_base")
_DIFFERENCE_MARKS = ("*", "°")


def render_terminal(sweep_folder: Path) -> str:
    """The table of a sweep as wide as the terminal, or 110 columns: the held-out split, every scorer.

    Raises:
        UserError: the table has not been written yet.
    """
    return to_terminal(_document(sweep_folder), _terminal_width())


def summarise(sweep_folder: Path) -> str:
    """Question, verdict, and what is missing, as wide as :func:`render_terminal`, which raises the same."""
    return to_summary(_document(sweep_folder), _terminal_width())


def verdict(sweep_folder: Path) -> str:
    """The answer to the sweep's question, in one line; raises like :func:`render_terminal`."""
    return " ".join(_document(sweep_folder).verdict)


def _terminal_width() -> int:
    if not sys.stdout.isatty():
        return _WIDTH
    return max(_LEAST_WIDTH, shutil.get_terminal_size((_WIDTH, 0)).columns)


def to_summary(document: Document, width: int = _WIDTH) -> str:
    """The document without its tables."""
    stream = io.StringIO()
    console = _console(stream, width)
    console.print(document.title)
    console.print(document.question)
    console.print(f"\n{' '.join(document.verdict)}")
    if document.status or document.missing:
        console.print()
    for line in (document.status, *document.missing):
        if line:
            console.print(line)
    return stream.getvalue()


def to_terminal(document: Document, width: int = _WIDTH) -> str:
    """The brief form of the document: its first split, what was trained on, and the footnotes."""
    stream = io.StringIO()
    console = _console(stream, width)
    split = document.splits[0]
    console.print(f"{document.title}, {split.brief}")
    console.print(document.question)
    console.print(f"\n{' '.join(document.verdict)}")
    if document.status:
        console.print(f"\n{document.status}")
    for scorer in split.sections:
        console.print(f"\n{scorer.brief}")
        for table in _tables(scorer):
            console.print(_table(table, width, _NAME_WIDTH, edges=False), crop=False)
    if document.categories:
        _print_categories(console, document.categories, width)
    for trained in _tables(document.trained):
        console.print(_table(trained, width, 2 * _NAME_WIDTH, edges=True), crop=False)
    for tuning in _tables(document.tuning) if document.tuning else ():
        console.print(_table(tuning, width, 2 * _NAME_WIDTH, edges=True), crop=False)
    console.print("\n".join(_footnote(note) for note in document.footnotes))
    return stream.getvalue()


def _print_categories(console: Console, section: Section, width: int) -> None:
    """The table by category with its notes, or how many differences it has where it is long."""
    tables = _tables(section)
    console.print(f"\n{section.brief}")
    if sum(len(table.rows) for table in tables) > _MOST_CATEGORY_LINES:
        console.print(marked_count(section))
        return
    for table in tables:
        console.print(_table(table, width, _NAME_WIDTH, edges=False), crop=False)
    console.print(
        "\n".join(_footnote(note) for block in section.blocks if isinstance(block, Notes) for note in block.notes)
    )


def _document(sweep_folder: Path) -> Document:
    path = sweep_folder / FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file; 'ablate table' writes it")
    return build_document(read_sweep(sweep_folder), read_rows(path))


def _console(stream: io.StringIO, width: int) -> Console:
    return Console(file=stream, width=width, color_system=None, highlight=False, markup=False)


def _tables(section: Section) -> list[Table]:
    return [block for block in section.blocks if isinstance(block, Table)]


def _table(table: Table, width: int, name_width: int, edges: bool) -> RichTable:
    """The columns that have a brief heading, names first.

    Where names of up to ``name_width`` characters find no room, the other columns are made narrower step by step.
    """
    shown = [(number, column) for number, column in enumerate(table.columns) if column.brief is not None]
    (first, names_column), *others = shown
    names = [_text(row[first], names_column.key) for row in table.rows]
    columns = [
        _Column(column, column.brief or "", [_text(row[number], column.key) for row in table.rows])
        for number, column in others
    ]
    labels = [_broken(name, name_width) for name in names]
    width -= 2 * edges
    for narrower, wanted in _narrower(labels, names):
        if _left(columns, width) < wanted:
            columns = narrower(columns)
    left = max(_left(columns, width), _LEAST_NAME)
    labels = [textwrap.indent(_broken(name, min(left, _MOST_NAME)), _INDENT) for name in names]
    needed = 2 * edges + left + width - _left(columns, width)
    rich_table = RichTable(box=box.SIMPLE_HEAD, width=needed, pad_edge=False, padding=(0, 1, 0, 0), show_edge=edges)
    rich_table.add_column(names_column.brief or "", justify=names_column.align, ratio=1)
    for column in columns:
        rich_table.add_column(column.heading, justify=column.column.align)
    for number, label in enumerate(labels):
        rich_table.add_row(label, *(column.texts[number] for column in columns))
    return rich_table


@dataclass(frozen=True)
class _Column:
    """A column beside the names: its heading and its texts, which may have several lines."""

    column: TableColumn
    heading: str
    texts: list[str]


def _narrower(
    labels: Sequence[str], names: Sequence[str]
) -> list[tuple[Callable[[list[_Column]], list[_Column]], int]]:
    """What is done while names have less than so many characters: for whole names first, then for their pieces."""
    whole = _longest(labels)
    piece = max([_LEAST_NAME, *(len(piece) for name in names for piece in pieces(name))])
    return [(_break_headings, whole), (_break_lists, whole), (_break_intervals, piece), (_break_words, piece)]


def _break_headings(columns: list[_Column]) -> list[_Column]:
    """No heading is wider than the texts below it, or ``_LEAST_HEADING``."""
    return [
        replace(column, heading=_broken_heading(column.heading, max(_longest(column.texts), _LEAST_HEADING)))
        for column in columns
    ]


def _break_lists(columns: list[_Column]) -> list[_Column]:
    return _break_headings(_replaced(columns, "; ", ";\n"))


def _break_intervals(columns: list[_Column]) -> list[_Column]:
    return _break_headings(_replaced(columns, " [", "\n["))


def _break_words(columns: list[_Column]) -> list[_Column]:
    """What is in lines already gets a line per word: of ``0–4; seeds disagree`` each."""
    return [
        replace(column, texts=[text.replace(" ", "\n") if ";\n" in text else text for text in column.texts])
        for column in columns
    ]


def _replaced(columns: list[_Column], old: str, new: str) -> list[_Column]:
    return [replace(column, texts=[text.replace(old, new) for text in column.texts]) for column in columns]


def _left(columns: Sequence[_Column], width: int) -> int:
    """Characters that the other columns leave for the names; each has a space at both sides."""
    return width - len(_INDENT) - sum(_longest([column.heading, *column.texts]) + 2 for column in columns)


def _longest(texts: Iterable[str]) -> int:
    """Characters of the longest line."""
    return max((len(line) for text in texts for line in text.split("\n")), default=0)


def _broken_heading(heading: str, most: int) -> str:
    """Broken before the brackets first."""
    if len(heading) <= most:
        return heading
    return "\n".join(_broken(part, most) for part in heading.replace(" [", "\n[").split("\n"))


def _broken(text: str, most: int) -> str:
    return "\n".join(break_lines(text, lambda line: len(line) <= most))


def _text(cell: TableCell, column: str) -> str:
    text = f"{cell.brief_text}{cell.marks}"
    # A space in place of the mark keeps the digits of a column below each other.
    return f"{text} " if column in _DIFFERENCES and not text.endswith(_DIFFERENCE_MARKS) else text


def _footnote(note: Note) -> str:
    return f"{note.sign}  {unstyled(note.text)}" if note.sign else unstyled(note.text)
