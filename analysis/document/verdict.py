"""The verdict: what a sweep answers to its question, in at most five sentences generated from the numbers.

A cell is called different only if its difference carries the mark of the primary scorer and split; of any other it is
said that it cannot be distinguished, with the difference that would have been seen. The sentences, each where there is
something to say: what differs; what cannot be distinguished, or why nothing is marked; which other judges agree; what
is missing, diverged or a sign of reward hacking; and how often one recipe looks different from itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.data.rows import FEW_PROMPTS
from analysis.document.answer import Answer, some
from analysis.document.formatting import has_estimates
from analysis.document.sentences import hacked_cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from analysis.data.rows import Row


def verdict(rows: Sequence[Row], tuning: str = "") -> tuple[str, ...]:
    """The sentences of the verdict, one to five.

    Args:
        rows: all rows of a sweep, of every scorer and split.
        tuning: how far the tuning is, as ``tuning: 12 of 40 trials``; empty where cells have their settings.
    """
    if tuning:
        return (f"Nothing can be said yet: the settings of the cells are not chosen ({tuning}).",)
    deciding = [row for row in rows if row.primary]
    if not deciding:
        sentences = ["The primary scorer has no results yet, so nothing can be said.", _reservations(rows, [])]
    else:
        same_split = [row for row in rows if row.split == deciding[0].split]
        answer = Answer(deciding)
        sentences = [
            *answer.sentences(),
            _other_judges(answer, same_split),
            _reservations(rows, same_split),
            _noise_floor(deciding),
        ]
    return tuple(sentence for sentence in sentences if sentence)


def _other_judges(answer: Answer, rows: Sequence[Row]) -> str:
    """Whether the other independent judges mark, in this direction, what the primary scorer marks."""
    rises = {row.cell: _difference(answer, row) > 0 for row in answer.different}
    if not rises:
        return ""
    # A judge whose comparison of a cell lacks seeds has said nothing of it.
    marks: dict[str, list[bool | None]] = {}
    for row in rows:
        if row.cell in rises and row.has_better_end and not (row.primary or row.conflicts):
            of_judge = marks.setdefault(row.scorer, [])
            comparison = answer.comparison(row)
            if comparison is not None and comparison.mark is not None:
                direction = (comparison.difference > 0) == rises[row.cell]
                of_judge.append(direction if comparison.marked else None)
    if not marks:
        return "No other independent judge was asked."
    opinions = []
    for scorer, directions in marks.items():
        if not directions:
            opinions.append(f"{scorer} has no complete comparison of them")
            continue
        against = f" and the opposite of {directions.count(False)}" if False in directions else ""
        opinions.append(f"{scorer} marks {directions.count(True)} of {len(directions)} in this direction{against}")
    return f"Of the other independent judges, {some(opinions)}."


def _difference(answer: Answer, row: Row) -> float:
    comparison = answer.comparison(row)
    return comparison.difference if comparison else 0.0


def _reservations(rows: Sequence[Row], same_split: Sequence[Row]) -> str:
    """What is missing, what diverged, where there is a sign of reward hacking, and too few prompts."""
    parts = []
    if cells := _cells(row for row in rows if row.missing_seeds or row.failed_seeds):
        parts.append(f"the table is partial: results of {some(cells)} are missing")
    if cells := _cells(row for row in rows if row.diverged_seeds):
        parts.append(f"a training diverged in {some(cells)}")
    if cells := hacked_cells(same_split):
        models = "" if has_estimates(same_split) else ", in these trained models"
        parts.append(
            f"there is a sign of reward hacking in {some(cells)}{models}: a reward of the training rose while an "
            "independent judge fell or high-frequency texture rose"
        )
    prompts = max((row.prompts for row in same_split if row.primary), default=0)
    if 0 < prompts < FEW_PROMPTS:
        parts.append(f"{prompts} prompt{'s are' if prompts > 1 else ' is'} too few for any interval")
    return f"But {'; '.join(parts)}." if parts else ""


def _noise_floor(rows: Sequence[Row]) -> str:
    excluding_zero, total = rows[0].noise_floor
    if not total:
        return ""
    return (
        f"Noise floor: {excluding_zero} of {total} comparisons of one recipe with itself at another seed exclude zero "
        "over prompts alone."
    )


def _cells(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.cell for row in rows))
