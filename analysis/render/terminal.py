"""The result table on a terminal, from the written ``rows.json`` alone, so that it shows at once."""

from __future__ import annotations

import io
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
_NAME_WIDTH = 22
_DIFFERENCES = ("versus_baseline", "versus_base")
_DIFFERENCE_MARKS = ("*", "°")


def render_terminal(sweep_folder: Path) -> str:
    """The table of a sweep for a terminal of 110 columns: the held-out split, every scorer.

    Raises:
        UserError: the table has not been written yet.
    """
    return to_terminal(_document(sweep_folder))


def summarise(sweep_folder: Path) -> str:
    """Question, verdict, and what is missing, for a terminal of 110 columns; raises like :func:`render_terminal`."""
    return to_summary(_document(sweep_folder))


def verdict(sweep_folder: Path) -> str:
    """The answer to the sweep's question, in one line; raises like :func:`render_terminal`."""
    return " ".join(_document(sweep_folder).verdict)


def to_summary(document: Document) -> str:
    """The document without its tables."""
    stream = io.StringIO()
    console = _console(stream)
    console.print(document.title)
    console.print(document.question)
    console.print(f"\n{' '.join(document.verdict)}")
    if document.status or document.missing:
        console.print()
    for line in (document.status, *document.missing):
        if line:
            console.print(line)
    return stream.getvalue()


def to_terminal(document: Document) -> str:
    """The brief form of the document: its first split, what was trained on, and the footnotes."""
    stream = io.StringIO()
    console = _console(stream)
    split = document.splits[0]
    console.print(f"{document.title}, {split.brief}")
    console.print(document.question)
    console.print(f"\n{' '.join(document.verdict)}")
    if document.status:
        console.print(f"\n{document.status}")
    for scorer in split.sections:
        console.print(f"\n{scorer.brief}")
        for table in _tables(scorer):
            console.print(_table(table, _NAME_WIDTH, edges=False))
    for trained in _tables(document.trained):
        console.print(_table(trained, 2 * _NAME_WIDTH, edges=True))
    console.print("\n".join(_footnote(note) for note in document.footnotes))
    return stream.getvalue()


def _document(sweep_folder: Path) -> Document:
    path = sweep_folder / FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file; 'ablate table' writes it")
    return build_document(read_sweep(sweep_folder), read_rows(path))


def _console(stream: io.StringIO) -> Console:
    return Console(file=stream, width=_WIDTH, color_system=None, highlight=False, markup=False)


def _tables(section: Section) -> list[Table]:
    return [block for block in section.blocks if isinstance(block, Table)]


def _table(table: Table, name_width: int, edges: bool) -> RichTable:
    """The columns that have a brief heading, the first one wrapped at ``name_width`` characters."""
    rich_table = RichTable(box=box.SIMPLE_HEAD, width=_WIDTH, pad_edge=False, padding=(0, 1, 0, 0), show_edge=edges)
    for column in table.columns:
        if column.brief is not None:
            # The names take what the other columns leave of the width.
            ratio = 1 if column is table.columns[0] else None
            rich_table.add_column(column.brief, justify=column.align, overflow="fold", ratio=ratio)
    for row in table.rows:
        shown = zip(table.columns, row, strict=True)
        texts = [_text(cell, column.key) for column, cell in shown if column.brief is not None]
        name = "\n".join(f"  {line}" for line in break_lines(texts[0], lambda line: len(line) <= name_width))
        rich_table.add_row(name, *texts[1:])
    return rich_table


def _text(cell: TableCell, column: str) -> str:
    text = f"{cell.brief_text}{cell.marks}"
    # A space in place of the mark keeps the digits of a column below each other.
    return f"{text} " if column in _DIFFERENCES and not text.endswith(_DIFFERENCE_MARKS) else text


def _footnote(note: Note) -> str:
    return f"{note.sign}  {unstyled(note.text)}" if note.sign else unstyled(note.text)
