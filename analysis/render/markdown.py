"""``table.md``: the document as Markdown. Figures are files beside it, so it names none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from analysis.document.model import Paragraph, Table

if TYPE_CHECKING:
    from analysis.document.model import Block, Column, Document, Note, Section, Span, TableCell, Text

_SPECIAL = re.compile(r"([\\`*<|])")
_LEGEND_OF = {"*": r"**Bold and \***:"}
"""How the legend shows a sign: what is marked with a star is bold too."""


def to_markdown(document: Document) -> str:
    """The whole document: splits in order, one table per scorer, then the legend and the origin of the numbers."""
    parts = [f"# {_escaped(document.title)}", _words(document.question)]
    # No bold: above the legend it stands for a mark.
    parts += [f"Verdict: {_escaped(' '.join(document.verdict))}", _text(document.origin)]
    if document.status:
        parts.append(f"**{_escaped(document.status)}.**")
    if document.missing:
        parts.append("\n".join(f"- {_escaped(line)}" for line in document.missing))
    for section in document.sections:
        parts += _section(section, level=2)
    return "\n\n".join(parts) + "\n"


def _section(section: Section, level: int) -> list[str]:
    """Its parts, which are to be separated by empty lines."""
    parts = [f"{'#' * level} {_escaped(section.title)}", *(_block(block) for block in section.blocks)]
    return [*parts, *(part for inner in section.sections for part in _section(inner, level + 1))]


def _block(block: Block) -> str:
    if isinstance(block, Paragraph):
        return _text(block.text)
    if isinstance(block, Table):
        return "\n".join([_line([column.heading for column in block.columns]), _rule(block.columns), *_rows(block)])
    return "\n".join(_note(note, block.bullets) for note in block.notes)


def _note(note: Note, bullet: bool) -> str:
    sign = f"{_LEGEND_OF.get(note.sign, note.sign)} " if note.sign else ""
    text = f"{sign}{_text(note.text)}"
    # Two spaces at the end of a line are Markdown's line break within a paragraph.
    return "- " + text.replace("\n", "\n  ") if bullet else f"{text}  "


def _rule(columns: tuple[Column, ...]) -> str:
    return f"|{'|'.join('---:' if column.align == 'right' else '---' for column in columns)}|"


def _rows(table: Table) -> list[str]:
    return [_line([_cell(cell) for cell in row]) for row in table.rows]


def _cell(cell: TableCell) -> str:
    text = _text(cell.text)
    return rf"**{text}**\*" if cell.marks == "*" else f"{text}{cell.marks}"


def _text(text: Text) -> str:
    return "".join(_span(span) for span in text)


def _span(span: Span) -> str:
    if span.style == "code":
        # Within backticks nothing can be escaped, and a bar would end the cell of a table.
        return f"`{span.text.replace('|', '/').replace('`', chr(39))}`"
    return f"**{_escaped(span.text)}**" if span.style == "bold" else _escaped(span.text)


def _escaped(text: str) -> str:
    """Text in which Markdown sees no sign of its own."""
    return _SPECIAL.sub(r"\\\1", text)


def _words(text: str) -> str:
    """An author's own words as one paragraph: no HTML, no link, no image, and no heading or list at its beginning."""
    words = _escaped(text).replace("[", r"\[")
    return f"\\{words}" if words[:1] in set("#>+-=~") else words


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
