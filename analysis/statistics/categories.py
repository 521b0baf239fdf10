"""Differences to the baseline by category of prompts, such as those of PartiPrompts: exploratory under every scorer.

The prompts of one category are a table of their own: its comparisons have estimates (``analysis.statistics.marks``) for
new prompts of the category and new training seeds, and moderate each other's seed variance. Marks are corrected by
Benjamini-Hochberg over all cells and all categories that are compared, so they are never those of the primary scorer.
With fewer than ``FEW_PROMPTS`` prompts, a category is counted and not compared. The rows themselves do not change.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from analysis.data.rows import FEW_PROMPTS, CategoryDifference
from analysis.statistics.differences import Pairs, align, compare
from analysis.statistics.marks import BENJAMINI_HOCHBERG, estimates, marks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from analysis.data.pairing import Panel
    from analysis.data.rows import Comparison, Row

    Identity = tuple[str | None, ...]


def with_categories(
    rows: Sequence[Row], panel: Panel, categories: Mapping[str, str], identity: Mapping[str, Identity]
) -> list[Row]:
    """The rows of a scorer and split with their differences by category.

    Args:
        rows: all of the panel, complete but for ``categories``.
        panel: their scores.
        categories: prompt id -> category, of the prompts that have one.
        identity: cell -> keys of its evaluations; cells that share them are one comparison.

    Returns:
        ``rows`` as they are where all prompts are of one category or of none, or where nothing can be compared.
    """
    of_prompt = np.array([categories.get(prompt, "") for prompt in panel.prompts], dtype=object)
    counts = Counter(sorted(of_prompt, key=lambda category: (category == "", category)))
    baseline = next((row for row in rows if row.is_baseline), None)
    if len(counts) < 2 or baseline is None or baseline.diverged:
        return list(rows)
    family = [row for row in rows if row.role != "base" and not row.is_baseline and not row.diverged]
    pairs = _pairs(family, baseline, panel)
    tested = [category for category, count in counts.items() if category and count >= FEW_PROMPTS]
    compared = {category: _compared(pairs, of_prompt == category, identity) for category in tested}
    complete = [row.cell for row in family if row.complete and baseline.complete]
    size = len(tested) * len({identity[row.cell] for row in family})
    compared = _marked(compared, complete, identity, size)

    def of_cell(cell: str) -> tuple[CategoryDifference, ...]:
        return tuple(
            CategoryDifference(category, count, compared.get(category, {}).get(cell))
            for category, count in counts.items()
        )

    return [replace(row, categories=of_cell(row.cell)) if row.cell in pairs else row for row in rows]


def _pairs(family: Sequence[Row], baseline: Row, panel: Panel) -> dict[str, Pairs]:
    """Cell -> it and the baseline, with all training seeds that both have, whatever looks decided."""
    reference = panel.cells.get(baseline.cell)
    if reference is None:
        return {}
    aligned = {row.cell: align(panel.cells[row.cell], reference) for row in family if row.cell in panel.cells}
    return {cell: pair for cell, pair in aligned.items() if pair is not None}


def _compared(
    pairs: Mapping[str, Pairs], chosen: NDArray[np.bool_], identity: Mapping[str, Identity]
) -> dict[str, Comparison]:
    """The comparisons over the ``chosen`` [prompts], with estimates where there are two training seeds; no marks."""
    of_category = {
        cell: Pairs(pair.seeds, pair.cell[:, chosen], pair.reference[:, chosen]) for cell, pair in pairs.items()
    }
    differences = {identity[cell]: pair.differences() for cell, pair in of_category.items() if len(pair.seeds) > 1}
    estimate_of = dict(zip(differences, estimates(list(differences.values())), strict=True))
    comparisons = compare(list(of_category.values()))
    return {
        cell: replace(comparison, estimate=estimate_of.get(identity[cell]))
        for cell, comparison in zip(of_category, comparisons, strict=True)
    }


def _marked(
    compared: Mapping[str, Mapping[str, Comparison]],
    complete: Sequence[str],
    identity: Mapping[str, Identity],
    size: int,
) -> dict[str, dict[str, Comparison]]:
    """``compared`` (category -> cell) with the marks of one family of ``size`` comparisons, for ``complete`` cells."""
    p_values = {
        (category, identity[cell]): comparison.estimate.p
        for category, of_cells in compared.items()
        for cell, comparison in of_cells.items()
        if comparison.estimate and cell in complete
    }
    mark_of = dict(zip(p_values, marks(list(p_values.values()), BENJAMINI_HOCHBERG, size), strict=True))
    return {
        category: {
            cell: replace(comparison, mark=mark_of.get((category, identity[cell])) if cell in complete else None)
            for cell, comparison in of_cells.items()
        }
        for category, of_cells in compared.items()
    }
