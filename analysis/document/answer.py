"""What the primary scorer says on the primary split: which cells differ, and which cannot be told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.document.formatting import decimals, format_interval, format_p

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.data.rows import Comparison, Row

NAMED = 3
"""Cells that a sentence names; of more, the number is said."""


class Answer:
    """The rows of the primary scorer and split, sorted by what may be said of them.

    Attributes:
        different: rows whose difference to the reference carries the mark, largest difference first.
        undecided: rows that were compared to the end and carry no mark.
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
        self._compared = {row.cell: found for row in trained if (found := self.comparison(row))}
        decided = [row for row in trained if row.cell in self._compared and self._compared[row.cell].mark]
        self.different = sorted((row for row in decided if self._compared[row.cell].marked), key=self._smallness)
        self.undecided = [row for row in decided if not self._compared[row.cell].marked]

    def comparison(self, row: Row) -> Comparison | None:
        """What the sweep asks of a row of any scorer: its comparison with the baseline, or the base model."""
        return row.versus_base if self._with_base else row.versus_baseline

    def sentences(self) -> list[str]:
        """What differs, and what cannot be told apart; or why nothing can be marked."""
        if not self.different and not self.undecided:
            return [self._nothing_marked()]
        sentences = []
        if self.different:
            total = len(self.different) + len(self.undecided)
            verb = "differs" if len(self.different) == 1 else "differ"
            cells = some([self._numbers(row) for row in self.different], "; ")
            sentences.append(
                f"By {self._judge()}, {len(self.different)} of {total} compared cells {verb} from {self._reference} "
                f"(95 % intervals, p by Holm): {cells}."
            )
        if self.undecided:
            by = "" if self.different else f"By {self._judge()}, "
            cells = some([row.cell for row in self.undecided])
            sentences.append(f"{by}{cells} cannot be told apart from {self._reference}{self._detectable()}.")
        return sentences

    def _nothing_marked(self) -> str:
        by = f"By {self._judge()}"
        if self._baseline_diverged and not self._with_base:
            return f"{by}, nothing is marked: a training of {self._reference} diverged, so no cell can be compared."
        if not self._compared:
            return f"{by}, nothing can be compared with {self._reference} yet."
        if max(row.planned_seeds for row in self._rows) < 2:
            why = "with one training seed, chance alone could produce differences of this size"
        elif any(comparison.estimate for comparison in self._compared.values()):
            why = "every comparison lacks a training seed"
        else:
            why = "no comparison has two finished training seeds and two prompts yet"
        return f"{by}, nothing is marked: {why}{self._farthest()}."

    def _farthest(self) -> str:
        """The largest difference of these trained models, which is no claim about the recipe."""
        cell, comparison = max(self._compared.items(), key=lambda item: abs(item[1].difference))
        return (
            f"; of these trained models {cell} is farthest from {self._reference}, "
            f"{comparison.difference:+.{self._places}f} "
            f"{format_interval(comparison.these_models, self._places)} over prompts alone"
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
        return f"{row.cell} by {comparison.difference:+.{self._places}f} {interval}, p = {format_p(comparison)}"

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
