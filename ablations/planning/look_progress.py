"""How far the looks of a sweep are: what a plan that is limited to the needed seeds carries with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ablations.grid.expand import Grid
    from analysis.data.looks import Looks


@dataclass(frozen=True)
class Progress:
    """How far the looks of a plan are.

    Attributes:
        grid: all cells with all seeds of the last look.
        record: what was decided.
        baseline: the baseline's name.
    """

    grid: Grid
    record: Looks
    baseline: str

    def needed(self, name: str) -> int:
        """How many seeds a trained cell needs so far."""
        if name == self.baseline:
            return self.record.baseline_seeds
        cell = self.record.cells[name]
        return self.record.counts[self.record.taken] if cell.is_open else cell.seeds
