"""The section of differences by category of prompts, under the primary scorer; ``categories.csv`` has all scorers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from analysis.data.rows import FEW_PROMPTS
from analysis.document.formatting import (
    cell_marks,
    decimals,
    difference_mark,
    format_difference,
    format_p,
    has_estimates,
    shown_interval,
)
from analysis.document.model import Block, Column, Note, Notes, Section, Table, TableCell, code, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.data.rows import CategoryDifference, Row

ANCHOR = "categories"
FILE = "categories.csv"
_NAMED = 5


def categories_section(rows: Sequence[Row]) -> Section | None:
    """The differences of every cell by category; None where the rows of the primary scorer and split have none."""
    divided = [row for row in rows if row.primary and row.categories]
    if not divided:
        return None
    lines = [
        (replace(row, versus_baseline=each.comparison, versus_base=None), each)
        for row in divided
        for each in row.categories
        if each.comparison
    ]
    shown = [row for row, _ in lines]
    over_seeds = has_estimates(shown)
    notes = [
        Note(plain(text)) for text in (_rule(len(lines), over_seeds), *_not_compared(divided[0].categories)) if text
    ]
    table = _table(lines, over_seeds)
    blocks: list[Block] = [Notes(tuple(notes)), *([table] if lines else [])]
    name = f"{divided[0].scorer} by category of prompts (exploratory)"
    return Section(name, ANCHOR, tuple(blocks), brief=name)


def marked_count(section: Section) -> str:
    """``168 differences by category of prompts, 3 of them marked °; table.md has them``."""
    cells = [row[3] for block in section.blocks if isinstance(block, Table) for row in block.rows]
    marked = sum(bool(cell.marks) for cell in cells)
    return f"{len(cells)} differences by category of prompts, {marked} of them marked °; table.md has them"


def _rule(count: int, over_seeds: bool) -> str:
    if not count:
        return ""
    if not over_seeds:
        return "Brackets are for new prompts of the category and these trained models alone, so nothing is marked."
    return (
        "Brackets are 95 % intervals for new prompts of the category and new training seeds. Exploratory, also under "
        "the primary scorer: ° is p below 0.05 after Benjamini-Hochberg's correction over cells and categories, and "
        "5 % of these marks may be false."
    )


def _not_compared(categories: Sequence[CategoryDifference]) -> list[str]:
    """Which categories are too small to be compared, and how many prompts have none."""
    few = [each for each in categories if each.category and each.prompts < FEW_PROMPTS]
    none = sum(each.prompts for each in categories if not each.category)
    named = ", ".join(f"{each.category} ({each.prompts})" for each in few[:_NAMED])
    more = f" and {len(few) - _NAMED} more" if len(few) > _NAMED else ""
    return [
        f"Not compared, with fewer than {FEW_PROMPTS} prompts: {named}{more}." if few else "",
        f"{none} prompt{'s have' if none != 1 else ' has'} no category." if none else "",
    ]


def _table(lines: Sequence[tuple[Row, CategoryDifference]], over_seeds: bool) -> Table:
    """A line per cell and category; the rows of ``lines`` carry the comparison over the category."""
    places = decimals([row for row, _ in lines])
    brackets = "95 %" if over_seeds else "95 %, new prompts only"
    unit = lines[0][0].unit if lines else ""
    columns = (
        Column("cell", "Cell", "left", "cell"),
        Column("category", "Category", "left", "category"),
        Column("prompts", "Prompts", brief="n"),
        Column("versus_baseline", f"vs baseline [{brackets}]", brief=f"vs baseline [{brackets}]", unit=unit),
        Column("p_baseline", "p vs baseline"),
    )
    return Table(
        f"{ANCHOR}-table", "Differences by category", columns, tuple(_line(*line, places, over_seeds) for line in lines)
    )


def _line(row: Row, each: CategoryDifference, places: int, over_seeds: bool) -> tuple[TableCell, ...]:
    comparison = each.comparison
    assert comparison is not None
    interval = shown_interval(comparison, over_seeds)
    return (
        TableCell(code(row.cell), cell_marks(row), brief=row.cell),
        TableCell(plain(each.category)),
        TableCell(plain(f"{each.prompts:,}"), number=each.prompts),
        TableCell(
            plain(format_difference(row, comparison, places, over_seeds)),
            difference_mark(comparison),
            number=comparison.difference,
            interval=(interval.low, interval.high) if interval else None,
        ),
        TableCell(plain(format_p(comparison)), number=comparison.mark.p_adjusted if comparison.mark else None),
    )
