"""The comparisons of a primary table whose seeds were added in looks: each is that of the look at which it stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from analysis.statistics.looks import levels, look_marks
from analysis.statistics.marks import estimates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from analysis.data.looks import Looks
    from analysis.data.rows import Comparison

    Floats = NDArray[np.float64]


def last_look(looks: Looks, cell: str) -> int:
    """The number of the last look that was taken of a cell, 0 before the first; the baseline is in all of them."""
    return looks.cells[cell].look if cell in looks.cells else looks.taken


def seeds_looked_at(looks: Looks | None, cell: str, seeds: int) -> int:
    """How many of a cell's ``seeds`` its last look was about: all without looks, and before the first."""
    look = last_look(looks, cell) if looks else 0
    return min(seeds, looks.counts[look - 1]) if looks and look else seeds


def with_baseline(looks: Looks, compared: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """Comparisons with the baseline, with the estimates that the looks have decided on and the marks that follow."""
    changed = {}
    for cell, comparison in compared.items():
        decided = looks.cells[cell]
        estimate, mark = decided.estimate, None
        if estimate is not None and decided.level is not None:
            (mark,) = look_marks([estimate.p], [decided.level])
        changed[cell] = replace(comparison, estimate=estimate, mark=mark)
    return changed


def with_base_model(
    looks: Looks, compared: Mapping[str, Comparison], differences: Mapping[str, Floats]
) -> dict[str, Comparison]:
    """Comparisons with the base model, which decide on no seed, at the levels of the looks of their cells.

    The levels spend the error over all cells with the baseline, and hold for whatever look a cell stops at.

    Args:
        looks: of the sweep.
        compared: cell -> comparison over the seeds of its last look.
        differences: cell -> [seeds, prompts] of those that can have an estimate.
    """
    looked_at = [cell for cell in differences if last_look(looks, cell)]
    at_levels = [levels(looks.counts, looks.family + 1)[last_look(looks, cell) - 1] for cell in looked_at]
    made = estimates([differences[cell] for cell in looked_at], np.array(at_levels))
    marks = look_marks([each.p for each in made], at_levels)
    changed = dict(compared)
    for cell, estimate, mark in zip(looked_at, made, marks, strict=True):
        changed[cell] = replace(compared[cell], estimate=estimate, mark=mark)
    return changed
