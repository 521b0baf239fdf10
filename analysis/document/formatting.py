"""How numbers, names and states read: as many decimals as the uncertainty supports, signs, line breaks in names."""

from __future__ import annotations

import math
import re
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from analysis.data.estimate import Interval
    from analysis.data.rows import Comparison, Row

ABSENT = "—"
_SIGNIFICANT = 0.05
_FEWEST_DECIMALS, _MOST_DECIMALS, _DECIMALS_WITHOUT_INTERVAL = 1, 6, 4
# Spaces, or a piece up to a sign that joins words (a dot only before a letter: 0.5 stays whole), or a whole word.
_PIECE = re.compile(r"\s+|\S*?(?:[=_,/]|\.(?=[A-Za-z]))|\S+")


def comparisons(row: Row) -> list[Comparison]:
    """The comparisons of a row that there are: with the baseline, then with the base model."""
    return [each for each in (row.versus_baseline, row.versus_base) if each is not None]


def decimals(rows: Sequence[Row]) -> int:
    """Decimals at which the usual interval of these rows has a half-width of two significant digits."""
    shown = [c.estimate.interval if c.estimate else c.these_models for row in rows for c in comparisons(row)]
    widths = [interval.high - interval.low for interval in shown if interval and interval.high > interval.low]
    if not widths:
        return _DECIMALS_WITHOUT_INTERVAL
    places = 1 - math.floor(math.log10(statistics.median(widths) / 2))
    return min(_MOST_DECIMALS, max(_FEWEST_DECIMALS, places))


def format_number(value: float | None, places: int) -> str:
    """``0.5520``, or a dash."""
    return ABSENT if value is None else f"{value:.{places}f}"


def format_interval(value: Interval | None, places: int) -> str:
    """``[+0.0080, +0.0290]``, or a dash."""
    return ABSENT if value is None else f"[{signed(value.low, places)}, {signed(value.high, places)}]"


def signed(value: float, places: int) -> str:
    """``+0.019``; what rounds to zero is ``+0.000``, never ``-0.000``."""
    return f"{round(value, places) + 0.0:+.{places}f}"


def format_percent(value: float) -> str:
    """``54.2 %`` of a share in [0, 1]."""
    return f"{100 * value:.1f} %"


def format_range(values: Sequence[float], form: str = ",") -> str:
    """``600``, ``583–601`` where training seeds differ, or a dash.

    Args:
        values: ascending.
        form: format of one number.
    """
    ends = dict.fromkeys(format(value, form) for value in (*values[:1], *values[-1:]))
    return "–".join(ends) or ABSENT


def format_seeds(numbers: Sequence[int]) -> str:
    """``0, 1, 7``, or ``0–4`` for four and more in a row."""
    consecutive = len(numbers) > 3 and list(numbers) == list(range(numbers[0], numbers[0] + len(numbers)))
    return f"{numbers[0]}–{numbers[-1]}" if consecutive else ", ".join(map(str, numbers))


def format_difference(row: Row, comparison: Comparison | None, places: int, over_seeds: bool) -> str:
    """``+0.0185 [+0.0080, +0.0290]``, ``diverged 1 of 3``, or a dash; without the mark.

    Args:
        row: whose comparison it is.
        comparison: with the baseline or the base model.
        places: decimals.
        over_seeds: brackets are for new prompts and training seeds (absent with one seed); otherwise for new prompts
            and these trained models (a dash with one prompt).
    """
    if row.diverged:
        return format_diverged(row)
    if comparison is None:
        return ABSENT
    text = signed(comparison.difference, places)
    interval = shown_interval(comparison, over_seeds)
    return text if interval is None and over_seeds else f"{text} {format_interval(interval, places)}"


def shown_interval(comparison: Comparison, over_seeds: bool) -> Interval | None:
    """The interval in the brackets of a difference; None of one prompt, or of new seeds where there is one seed."""
    if not over_seeds:
        return comparison.these_models
    return comparison.estimate.interval if comparison.estimate else None


def format_diverged(row: Row) -> str:
    """``diverged 1 of 3``."""
    return f"diverged {len(row.diverged_seeds)} of {row.planned_seeds}"


def format_by_seed(comparison: Comparison | None, places: int) -> str:
    """``+0.018, +0.007 (sd 0.008)``, or a dash."""
    if comparison is None:
        return ABSENT
    values = ", ".join(signed(value, places) for value in comparison.by_seed.values())
    deviation = comparison.seed_deviation
    return values if deviation is None else f"{values} (sd {deviation:.{places}f})"


def format_p(comparison: Comparison | None) -> str:
    """``0.031``, the corrected p value, or a dash; rounding takes none below 0.05 up to it."""
    if comparison is None or not comparison.mark:
        return ABSENT
    p = comparison.mark.p_adjusted
    forms = (f"{p:.{digits}g}" for digits in range(2, 18))
    return next(text for text in forms if (float(text) < _SIGNIFICANT) == (p < _SIGNIFICANT))


def format_contradicted(row: Row) -> str:
    """``8.3 %``: the share of the cell's pairs whose loser has the higher score, or a dash."""
    shares = row.trained.contradicted
    return f"{format_range([100 * share for share in shares], '.1f')} %" if shares else ABSENT


def difference_mark(comparison: Comparison | None) -> str:
    """``*`` by Holm or by looks on the primary scorer, ``°`` by Benjamini-Hochberg elsewhere, or nothing."""
    if comparison is None or not comparison.marked or comparison.mark is None:
        return ""
    return "°" if comparison.mark.adjustment == "Benjamini-Hochberg" else "*"


def cell_marks(row: Row) -> str:
    """``†`` when the scorer is no independent judge of the cell, ``‡`` when a replicate is missing or failed."""
    partial = not row.complete or any(comparison.seeds != row.seeds for comparison in comparisons(row))
    return ("†" if row.conflicts else "") + ("‡" if partial else "")


def has_estimates(rows: Sequence[Row]) -> bool:
    """Whether some comparison of these rows speaks of new training seeds."""
    return any(comparison.estimate for row in rows for comparison in comparisons(row))


def seeds_disagree(row: Row) -> bool:
    """Whether the training seeds of a cell differ from each other far more than those of the other cells."""
    return any(comparison.estimate and comparison.estimate.seeds_disagree for comparison in comparisons(row))


def pieces(text: str) -> list[str]:
    """What :func:`break_lines` keeps together: ``loss.``, ``name=``, ``dpo,``."""
    return [piece.strip() for piece in _PIECE.findall(text)]


def break_lines(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Lines of ``text`` that fit, broken where a reader of names such as ``loss.name=dpo,rank=8`` would break them.

    Inside a piece it is broken only where the piece alone does not fit.
    """
    lines: list[str] = [""]
    for piece in _PIECE.findall(text):
        if fits((lines[-1] + piece).rstrip()):
            lines[-1] += piece
            continue
        if lines[-1]:
            lines.append("")
        for letter in piece.lstrip():
            if lines[-1] and not fits(lines[-1] + letter):
                lines.append("")
            lines[-1] += letter
    return [line.strip() for line in lines]
