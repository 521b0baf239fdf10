"""What the primary scorer says on the primary split: which cells differ, and which cannot be distinguished."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.data.looks import EQUIVALENT
from analysis.document.formatting import decimals, format_interval, format_p, signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.data.rows import Comparison, Row

NAMED = 3
"""Cells that a sentence names; of more, the number is said."""


class Answer:
    """The rows of the primary scorer and split, sorted by what may be said of them.

    Attributes:
        different: rows whose difference to the reference carries the mark, largest difference first.
        within_margin: with seeds that are added in looks, rows without a mark that stopped within the margin.
        still_open: with looks, rows without a mark that get further seeds.
        undecided: all other rows that were compared to the end and carry no mark.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._places = decimals(rows)
        trained = [row for row in rows if row.role != "base"]
        baseline = next((row for row in trained if row.is_baseline), None)
        # A sweep of the baseline alone has nothing else to compare it with than the base model.
        self._with_base = len(trained) == 1 and baseline is not None
        self._reference = f"the baseline {baseline.cell}" if baseline and not self._with_base else "the base model"
        self._baseline_diverged = baseline is not None and baseline.diverged
        self._compared = {row.cell: comparison for row in trained if (comparison := self.comparison(row))}
        decided = [row for row in trained if row.cell in self._compared and self._compared[row.cell].mark]
        self.different = sorted((row for row in decided if self._compared[row.cell].marked), key=self._smallness)
        unmarked = [row for row in decided if not self._compared[row.cell].marked]
        self.within_margin = [row for row in unmarked if row.stopped == EQUIVALENT]
        self.still_open = [row for row in unmarked if row.look is not None and not row.stopped]
        self.undecided = [row for row in unmarked if row not in (*self.within_margin, *self.still_open)]
        self._decided = len(decided)

    def comparison(self, row: Row) -> Comparison | None:
        """What the sweep asks of a row of any scorer: its comparison with the baseline, or the base model."""
        return row.versus_base if self._with_base else row.versus_baseline

    def sentences(self) -> list[str]:
        """What differs, and what cannot be distinguished; or why nothing can be marked."""
        if not self._decided:
            return [self._nothing_marked()]
        sentences = []
        if self.different:
            verb = "differs" if len(self.different) == 1 else "differ"
            cells = some([self._numbers(row) for row in self.different], "; ")
            sentences.append(
                f"By {self._judge()}, {len(self.different)} of {self._decided} compared cells {verb} from "
                f"{self._reference} ({self._intervals()}): {cells}."
            )
        if rest := "; ".join(self._not_different()):
            sentences.append(f"{'' if self.different else f'By {self._judge()}, '}{rest}.")
        return sentences

    def _intervals(self) -> str:
        """How the intervals and p values of marked differences are made."""
        if any(row.look is not None for row in self._rows):
            return "intervals of the looks, together 95 %, p scaled to 0.05"
        return "95 % intervals, p by Holm"

    def _not_different(self) -> list[str]:
        """What is said of cells without a mark, of each kind that there is."""
        parts = []
        if self.within_margin:
            cells = [row.cell for row in self.within_margin]
            verb = "is" if len(cells) == 1 else "are"
            parts.append(f"{some(cells)} {verb} within {self.within_margin[0].margin:g} of {self._reference}")
        if self.still_open:
            cells = [row.cell for row in self.still_open]
            verb = "is still open and gets" if len(cells) == 1 else "are still open and get"
            parts.append(f"{some(cells)} {verb} further seeds")
        if self.undecided:
            cells = [row.cell for row in self.undecided]
            parts.append(f"{some(cells)} cannot be distinguished from {self._reference}{self._detectable()}")
        return parts

    def _nothing_marked(self) -> str:
        by = f"By {self._judge()}"
        if self._baseline_diverged:
            baseline = next(row.cell for row in self._rows if row.is_baseline)
            return (
                f"{by}, nothing is marked: a training of the baseline {baseline} diverged, so no cell can be compared."
            )
        if not self._compared:
            others = [row for row in self._rows if row.role != "base" and not row.is_baseline]
            if others and all(row.diverged for row in others):
                return f"{by}, nothing can be compared with {self._reference}: every other cell diverged."
            return f"{by}, nothing can be compared with {self._reference} yet."
        if any(row.look == 0 for row in self._rows):
            why = "the first look is not complete"
        elif max(row.planned_seeds for row in self._rows) < 2:
            why = "with one training seed, chance alone could produce differences of this size"
        elif any(comparison.estimate for comparison in self._compared.values()):
            why = "every comparison lacks a training seed"
        else:
            why = "no comparison has two finished training seeds and two prompts yet"
        return f"{by}, nothing is marked: {why}{self._farthest()}."

    def _farthest(self) -> str:
        """The largest difference of these trained models, which is no claim about the recipe."""
        cell, comparison = max(self._compared.items(), key=lambda item: abs(item[1].difference))
        alone = comparison.these_models
        interval = f" {format_interval(alone, self._places)} over prompts alone" if alone else ""
        return (
            f"; of these trained models {cell} is farthest from {self._reference}, "
            f"{signed(comparison.difference, self._places)}{interval}"
        )

    def _detectable(self) -> str:
        """What would have been seen; the rows have it for comparisons with the baseline."""
        difference = self._rows[0].detectable
        if difference is None or self._with_base:
            return ""
        return (
            f": a true difference of {difference:.{self._places}f} would be marked with a chance of 80 %, "
            "a smaller one may well be there"
        )

    def _numbers(self, row: Row) -> str:
        """``a by +0.021 [+0.012, +0.031], p = 0.0009``, the numbers as the table has them."""
        comparison = self._compared[row.cell]
        assert comparison.estimate is not None
        interval = format_interval(comparison.estimate.interval, self._places)
        return f"{row.cell} by {signed(comparison.difference, self._places)} {interval}, p = {format_p(comparison)}"

    def _judge(self) -> str:
        """The primary scorer and split, with what is to be known of the scorer before its word is taken."""
        first = self._rows[0]
        partial = any(row.conflicts for row in self._rows if row.role != "base")
        return f"{first.scorer} on {first.split}{' (no independent judge, see †)' if partial else ''}"

    def _smallness(self, row: Row) -> float:
        return -abs(self._compared[row.cell].difference)


def some(texts: Sequence[str], separator: str = ", ") -> str:
    """``a, b and c``; of more than ``NAMED``, ``a, b, c and 4 more``."""
    shown = list(texts[:NAMED])
    if len(texts) > NAMED:
        shown.append(f"{len(texts) - NAMED} more")
    return shown[0] if len(shown) == 1 else f"{separator.join(shown[:-1])} and {shown[-1]}"
