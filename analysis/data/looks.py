"""Where the comparisons of a sweep stand whose seeds are added in looks: the part ``looks`` of ``cells.json``.

The grid runner decides and writes it (``ablations.planning.looks``); tables read it. How a look decides is in
``analysis.statistics.looks``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from analysis.data.estimate import Estimate, read_estimate

if TYPE_CHECKING:
    from collections.abc import Mapping

OPEN, DIFFERENT, EQUIVALENT, UNDECIDED = "open", "different", "equivalent", "undecided"
DIVERGED, BASELINE_DIVERGED, NO_SCORES = "diverged", "baseline diverged", "no scores"
REASONS = (OPEN, DIFFERENT, EQUIVALENT, UNDECIDED, DIVERGED, BASELINE_DIVERGED, NO_SCORES)


@dataclass(frozen=True)
class CellLook:
    """A cell's comparison with the baseline at the last look that was taken of it.

    Attributes:
        look: its number, from 1; 0 before the first look.
        seeds: training seeds of the cell at that look; 0 before the first.
        reason: ``open``; or why it gets no more seeds: the difference is established (``different``), it is within the
            margin (``equivalent``), the last look was reached (``undecided``), a training of the cell or of the
            baseline ``diverged`` (``baseline diverged``), or the primary scorer gave too few numbers (``no scores``).
        level: the largest p value that establishes a difference at this look; None before the first.
        difference: mean difference to the baseline over these seeds; None without a comparison.
        estimate: its interval encloses the difference with 1 - ``level``; None without a comparison.
    """

    look: int = 0
    seeds: int = 0
    reason: str = OPEN
    level: float | None = None
    difference: float | None = None
    estimate: Estimate | None = None

    @property
    def is_open(self) -> bool:
        """Whether the cell gets further seeds."""
        return self.reason == OPEN


@dataclass(frozen=True)
class Looks:
    """The looks of a sweep and how far they are.

    Attributes:
        counts: training seeds at each look, ascending.
        margin: half width of the range that counts as no difference, in the primary scorer's unit; None: equivalence is
            not asked for.
        family: how many comparisons with the baseline the sweep has; the error is spent over all of them.
        cells: trained cell without the baseline -> where its comparison stands.
        taken: how many looks are complete.
        baseline_seeds: how many seeds the baseline needs: as many as the cell that needs most.
        needed: how many trainings (cell, seed) are needed so far.
        most: how many there would be with all seeds of the last look.
        grid: a digest of all cells with all seeds and of these settings: equal for tables of the same sweep.
    """

    counts: tuple[int, ...]
    margin: float | None
    family: int
    cells: Mapping[str, CellLook]
    taken: int
    baseline_seeds: int
    needed: int
    most: int
    grid: str

    @property
    def open_cells(self) -> list[str]:
        """The cells that get further seeds."""
        return [name for name, cell in self.cells.items() if cell.is_open]

    @property
    def saved(self) -> float:
        """Share in [0, 1] of the trainings that are not needed, or not yet."""
        return 1 - self.needed / self.most


def looks_as_json(looks: Looks) -> dict[str, Any]:
    """Plain values."""
    return asdict(looks)


def read_looks(content: Mapping[str, Any] | None) -> Looks | None:
    """What :func:`looks_as_json` wrote; None for a sweep without looks.

    Raises:
        KeyError, TypeError, ValueError: another content.
    """
    if content is None:
        return None
    cells = {name: _cell_look(cell) for name, cell in content["cells"].items()}
    return Looks(**{**content, "counts": tuple(content["counts"]), "cells": cells})


def _cell_look(content: Mapping[str, Any]) -> CellLook:
    if content["reason"] not in REASONS:
        raise ValueError(f"unknown reason {content['reason']!r}")
    return CellLook(**{**content, "estimate": read_estimate(content["estimate"])})
