"""The parts of a document of results, free of any output format: the renderers in ``analysis.render`` only lay it out.

A table's cell carries its raw numbers beside the text, columns their unit, sections and tables an anchor, so that a
format with links, sorting or hints needs nothing but the document. ``brief`` is what a narrow format shows instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

Style: TypeAlias = Literal["plain", "bold", "code"]
_MARKUP = re.compile(r"\*\*(?P<bold>.+?)\*\*|`(?P<code>.+?)`", re.DOTALL)


@dataclass(frozen=True)
class Span:
    """A piece of text in one style; ``code`` is a name as the configuration or the disk has it."""

    text: str
    style: Style = "plain"


Text: TypeAlias = tuple[Span, ...]


def plain(text: str) -> Text:
    """Text as it is, whatever signs it contains."""
    return (Span(text),)


def code(name: str) -> Text:
    """A name as the configuration or the disk has it."""
    return (Span(name, "code"),)


def marked_up(source: str) -> Text:
    """This project's own text, in which two stars enclose what is bold and backticks what is code; no user's text."""
    spans: list[Span] = []
    position = 0
    for match in _MARKUP.finditer(source):
        spans.append(Span(source[position : match.start()]))
        spans.append(Span(match["bold"], "bold") if match["bold"] else Span(match["code"], "code"))
        position = match.end()
    spans.append(Span(source[position:]))
    return tuple(span for span in spans if span.text)


def unstyled(text: Text) -> str:
    """The characters alone."""
    return "".join(span.text for span in text)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: stable name of the column within its table, for programs and style sheets.
        heading: as readers see it.
        align: of heading and cells.
        brief: heading in a narrow format; None: not shown there.
        unit: of the raw numbers; empty where there are none, or where they have none.
    """

    key: str
    heading: str
    align: Literal["left", "right"] = "right"
    brief: str | None = None
    unit: str = ""


@dataclass(frozen=True)
class TableCell:
    """What stands in one place of a table.

    Attributes:
        text: without the marks.
        marks: signs behind the text, each explained by a :class:`Note`: ``*`` and ``°`` for a difference that may be
            called one, ``†`` and ``‡`` for a scorer that is no independent judge and for missing seeds.
        brief: text in a narrow format; None: as ``text``.
        number: the raw number behind the text, in the column's unit; None where there is none.
        interval: its 95 % interval (low, high).
    """

    text: Text
    marks: str = ""
    brief: str | None = None
    number: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def brief_text(self) -> str:
        """What a narrow format shows, without the marks."""
        return unstyled(self.text) if self.brief is None else self.brief


@dataclass(frozen=True)
class Table:
    """A table; every row has one cell per column, the first column names the row."""

    anchor: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[TableCell, ...], ...]

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), f"table {self.anchor}: rows of other lengths"


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    text: Text


@dataclass(frozen=True)
class Note:
    """An explanation: of a sign that tables use, or of the whole where ``sign`` is empty."""

    text: Text
    sign: str = ""


@dataclass(frozen=True)
class Notes:
    """Notes below each other; as a list with bullets, or as lines close to the table that they are about."""

    notes: tuple[Note, ...]
    bullets: bool = False


@dataclass(frozen=True)
class FigureReference:
    """A figure by name: its files are ``<name>.png`` and, as ``formats`` says, others beside it."""

    name: str
    caption: str
    formats: tuple[str, ...] = ("png",)


Block: TypeAlias = Paragraph | Notes | Table


@dataclass(frozen=True)
class Section:
    """A part of the document; ``anchor`` is unique in it, ``brief`` is the title in a narrow format."""

    title: str
    anchor: str
    blocks: tuple[Block, ...] = ()
    sections: tuple[Section, ...] = ()
    brief: str = ""


@dataclass(frozen=True)
class Document:
    """The results of one sweep.

    Attributes:
        title: sweep and experiment.
        question: what the sweep asks, in its author's words.
        verdict: the answer, one to five sentences generated from the numbers.
        origin: the baseline and the commit.
        status: that not all cells have their results; empty where they have.
        missing: what is not in the numbers, a line each.
        splits: results, a section per split with a section per scorer in it; the split that decides first.
        categories: differences by category of prompts; None where prompts have no different categories.
        trained: what every cell was trained on.
        tuning: how the settings of the cells were chosen; None where they were not tuned.
        legend: how to read the tables.
        sources: cells, keys and data behind the numbers.
        footnotes: the notes that a format needs which shows the first split alone, a line each.
        figures: those that were drawn.
    """

    title: str
    question: str
    verdict: tuple[str, ...]
    origin: Text
    status: str
    missing: tuple[str, ...]
    splits: tuple[Section, ...]
    trained: Section
    legend: Section
    sources: Section
    footnotes: tuple[Note, ...]
    figures: tuple[FigureReference, ...] = ()
    tuning: Section | None = None
    categories: Section | None = None

    @property
    def sections(self) -> tuple[Section, ...]:
        """All sections in reading order."""
        tuning = [self.tuning] if self.tuning else []
        categories = [self.categories] if self.categories else []
        return (*self.splits, *categories, self.trained, *tuning, self.legend, self.sources)
