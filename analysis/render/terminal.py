"""The result table on a terminal, from the written ``rows.json`` alone, so that it shows at once."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from analysis.data.rows import FILE, read_rows
from analysis.data.sweep import read_sweep
from analysis.document.build import build_document
from analysis.document.formatting import break_lines
from analysis.document.model import Table, unstyled
from qsd.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.document.model import Document, Note, Section, TableCell

_WIDTH = 110
"""Columns where the text goes to no terminal."""
_LEAST_WIDTH = 80
"""Tables of a narrower terminal would break numbers."""
_NAME_WIDTH = 22
_LEAST_HEADING = 12
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
            console.print(_table(table, width, _NAME_WIDTH, edges=False))
    for trained in _tables(document.trained):
        console.print(_table(trained, width, 2 * _NAME_WIDTH, edges=True))
    for tuning in _tables(document.tuning) if document.tuning else ():
        console.print(_table(tuning, width, 2 * _NAME_WIDTH, edges=True))
    console.print("\n".join(_footnote(note) for note in document.footnotes))
    return stream.getvalue()


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
    """The columns that have a brief heading, the first one wrapped at ``name_width`` characters."""
    rich_table = RichTable(box=box.SIMPLE_HEAD, width=width, pad_edge=False, padding=(0, 1, 0, 0), show_edge=edges)
    shown = [(number, column) for number, column in enumerate(table.columns) if column.brief is not None]
    lines = []
    for row in table.rows:
        name, *texts = (_text(row[number], column.key) for number, column in shown)
        lines.append((textwrap.indent(_broken(name, name_width), "  "), *texts))
    for number, heading in enumerate(_headings([column.brief or "" for _, column in shown], lines, width)):
        # The names take what the other columns leave of the width.
        rich_table.add_column(heading, justify=shown[number][1].align, overflow="fold", ratio=None if number else 1)
    for line in lines:
        rich_table.add_row(*line)
    return rich_table


def _headings(headings: list[str], lines: list[tuple[str, ...]], width: int) -> list[str]:
    """The headings, all but the first broken where they would take from the names what these need."""
    longest = [
        max((len(part) for line in lines for part in line[number].split("\n")), default=0)
        for number in range(len(headings))
    ]
    taken = sum(max(len(heading), most) + 1 for heading, most in zip(headings[1:], longest[1:], strict=True))
    if width - taken > longest[0]:
        return headings
    narrow = (max(most, _LEAST_HEADING) for most in longest[1:])
    return [headings[0], *(_broken(heading, most) for heading, most in zip(headings[1:], narrow, strict=True))]


def _broken(text: str, most: int) -> str:
    return "\n".join(break_lines(text, lambda line: len(line) <= most))


def _text(cell: TableCell, column: str) -> str:
    text = f"{cell.brief_text}{cell.marks}"
    # A space in place of the mark keeps the digits of a column below each other.
    return f"{text} " if column in _DIFFERENCES and not text.endswith(_DIFFERENCE_MARKS) else text


def _footnote(note: Note) -> str:
    return f"{note.sign}  {unstyled(note.text)}" if note.sign else unstyled(note.text)
