"""How numbers and states read in tables: as many decimals as the uncertainty supports, marks, titles."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from analysis.sweep import HELD_OUT_SPLITS, SEEN_SPLIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.comparison import Comparison, Interval
    from analysis.rows import Row

ABSENT = "—"
_FEWEST, _MOST, _UNKNOWN = 1, 6, 4


def decimals(rows: Sequence[Row]) -> int:
    """Decimals at which the usual interval of these rows has a half-width of two significant digits."""
    comparisons = [c for row in rows for c in (row.versus_baseline, row.versus_base) if c is not None]
    shown = [c.estimate.interval if c.estimate else c.these_models for c in comparisons]
    positive = [interval.high - interval.low for interval in shown if interval.high > interval.low]
    if not positive:
        return _UNKNOWN
    return min(_MOST, max(_FEWEST, 1 - math.floor(math.log10(statistics.median(positive) / 2))))


def plain(value: float | None, places: int) -> str:
    """``0.5520``, or a dash."""
    return ABSENT if value is None else f"{value:.{places}f}"


def interval(value: Interval | None, places: int) -> str:
    """``[+0.0080, +0.0290]``, or a dash."""
    return ABSENT if value is None else f"[{value.low:+.{places}f}, {value.high:+.{places}f}]"


def percent(value: float) -> str:
    """``54.2 %`` of a share in [0, 1]."""
    return f"{100 * value:.1f} %"


def has_estimates(rows: Sequence[Row]) -> bool:
    """Whether some comparison of these rows speaks of new training seeds."""
    return any(c is not None and c.estimate for row in rows for c in (row.versus_baseline, row.versus_base))


def difference(row: Row, comparison: Comparison | None, places: int, over_seeds: bool) -> str:
    """``+0.0185 [+0.0080, +0.0290]*``, ``diverged 1 of 3``, or a dash.

    Args:
        row: whose comparison it is.
        comparison: with the baseline or the base model.
        places: decimals.
        over_seeds: brackets are for new prompts and training seeds (absent with one seed); otherwise for new prompts
            and these trained models.
    """
    if row.diverged:
        return diverged(row)
    if comparison is None:
        return ABSENT
    text = f"{comparison.difference:+.{places}f}"
    if not over_seeds:
        return f"{text} {interval(comparison.these_models, places)}"
    estimate = comparison.estimate
    return f"{text} {interval(estimate.interval, places)}{mark(comparison)}" if estimate else text


def mark(comparison: Comparison) -> str:
    """``*`` by Holm on the primary scorer, ``°`` by Benjamini-Hochberg elsewhere, or nothing."""
    if not comparison.marked or comparison.mark is None:
        return ""
    return "*" if comparison.mark.adjustment == "Holm" else "°"


def diverged(row: Row) -> str:
    """``diverged 1 of 3``."""
    return f"diverged {len(row.diverged_seeds)} of {row.planned_seeds}"


def disagree(row: Row) -> bool:
    """Whether the training seeds of a cell differ from each other far more than those of the other cells."""
    found = [c.estimate for c in (row.versus_baseline, row.versus_base) if c is not None]
    return any(estimate is not None and estimate.seeds_disagree for estimate in found)


def per_seed(comparison: Comparison | None, places: int) -> str:
    """``+0.018, +0.007 (sd 0.008)``, or a dash."""
    if comparison is None:
        return ABSENT
    values = ", ".join(f"{value:+.{places}f}" for value in comparison.by_seed.values())
    deviation = comparison.seed_deviation
    return values if deviation is None else f"{values} (sd {deviation:.{places}f})"


def spread(values: Sequence[float], form: str = ",") -> str:
    """``600``, ``583–601`` where training seeds differ, or a dash; ``form`` is of one number."""
    ends = dict.fromkeys(format(value, form) for value in (*values[:1], *values[-1:]))
    return "–".join(ends) or ABSENT


def against(row: Row) -> str:
    """``8.3 %``: the share of the cell's pairs whose loser has the higher score, or a dash."""
    shares = row.trained.contradicted
    return f"{spread([100 * share for share in shares], '.1f')} %" if shares else ABSENT


def budget(rows: Sequence[Row]) -> str:
    """What was equal for all cells."""
    told = sorted({name for row in rows for name in row.trained.budget})
    means = {"steps": "the same number of optimiser steps", "epochs": "the same number of passes over its pairs"}
    if len(told) == 1:
        return f"Every cell was trained for {means.get(told[0], told[0])}."
    return "Cells were trained under different budgets." if told else ""


def split_title(split: str) -> str:
    """``evaluation: held-out prompts``."""
    if split in HELD_OUT_SPLITS:
        return f"{split}: held-out prompts"
    return f"{split}: prompts of the training data" if split == SEEN_SPLIT else split


def marks(row: Row) -> str:
    """``†`` when the scorer is no independent judge of the cell, ``‡`` when a replicate is missing or failed."""
    compared = [c for c in (row.versus_baseline, row.versus_base) if c is not None]
    partial = not row.complete or any(c.seeds != row.seeds for c in compared)
    return ("†" if row.conflicts else "") + ("‡" if partial else "")


def seeds(row: Row, brief: bool = False) -> str:
    """``0, 1; missing 2``; seeds of a comparison are named where they are fewer than those of the mean.

    ``brief`` leaves out what is missing, diverged or failed: it is stated elsewhere.
    """
    parts = [_listed(row.seeds)] if row.seeds else []
    if brief:
        return "; ".join([*parts, *(["seeds disagree"] if disagree(row) else [])]) or ABSENT
    if row.missing_seeds:
        parts.append(f"missing {', '.join(row.missing_seeds)}")
    if row.diverged_seeds:
        parts.append(f"diverged {_listed(row.diverged_seeds)}")
    if row.failed_seeds:
        parts.append(f"failed {', '.join(seed for seed, _ in row.failed_seeds)}")
    for name, compared in (("baseline", row.versus_baseline), ("base model", row.versus_base)):
        if compared is not None and compared.seeds != row.seeds:
            parts.append(f"vs {name} {_listed(compared.seeds)}")
    if disagree(row):
        parts.append("seeds disagree")
    return "; ".join(parts) or ABSENT


def _listed(numbers: Sequence[int]) -> str:
    """``0, 1, 7``, or ``0-4`` for four and more in a row."""
    whole = len(numbers) > 3 and list(numbers) == list(range(numbers[0], numbers[0] + len(numbers)))
    return f"{numbers[0]}–{numbers[-1]}" if whole else ", ".join(map(str, numbers))


def prompts(rows: Sequence[Row]) -> int:
    """The number of prompts behind these rows."""
    return max(row.prompts for row in rows)


def incomplete(rows: Sequence[Row]) -> list[str]:
    """What is not in the numbers: a line for what is not evaluated yet, what diverged, and each failure."""
    absent = dict.fromkeys(_with_seeds(row.cell, row.missing_seeds) for row in rows if row.missing_seeds)
    lines = [f"not evaluated yet: {', '.join(absent)}"] if absent else []
    gone = dict.fromkeys(_with_seeds(row.cell, _texts(row.diverged_seeds)) for row in rows if row.diverged_seeds)
    lines += [f"diverged: {', '.join(gone)}"] if gone else []
    failed = dict.fromkeys(
        f"failed: {_with_seeds(row.cell, (seed,))}: {why}" for row in rows for seed, why in row.failed_seeds
    )
    return [*lines, *failed]


def partial(rows: Sequence[Row]) -> str:
    """``partial: 3 of 5 cells have all their results``; empty when every cell has, or diverged."""
    cells = {row.cell for row in rows}
    short = {row.cell for row in rows if row.missing_seeds or row.failed_seeds}
    return f"partial: {len(cells - short)} of {len(cells)} cells have all their results" if short else ""


def _texts(seeds: Sequence[int]) -> list[str]:
    return [str(seed) for seed in seeds]


def _with_seeds(cell: str, seeds: Sequence[str]) -> str:
    if tuple(seeds) == ("base",):
        return cell
    return f"{cell} seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}"


def conflicts(rows: Sequence[Row]) -> list[str]:
    """``judge: labelled the training pairs``, a line per scorer and reason; the cells where it is not so for all."""
    trained = [row for row in rows if row.role != "base"]
    found: dict[tuple[str, str], list[Row]] = {}
    for row in trained:
        for why in row.conflicts:
            found.setdefault((row.scorer, why), []).append(row)
    lines = []
    for (scorer, why), of in found.items():
        cells = list(dict.fromkeys(row.cell for row in of))
        everywhere = len(cells) == len({row.cell for row in trained if row.scorer == scorer})
        lines.append(f"{scorer} {why}{'' if everywhere else f' of {len(cells)} cells'}")
    return lines


def floor(rows: Sequence[Row]) -> str:
    """What equal recipes look like over prompts alone; empty with one seed."""
    some, every = rows[0].noise_floor
    if not every:
        return ""
    return f"the same recipe at another seed: {some} of {every} comparisons over prompts exclude zero"


def sensitivity(rows: Sequence[Row], places: int) -> str:
    """Which difference to the baseline would be marked; empty where nothing can be."""
    at = rows[0].detectable
    return "" if at is None else f"a true difference of {at:.{places}f} to the baseline is marked with a chance of 80 %"


def no_marks(rows: Sequence[Row]) -> str:
    """Why a table without any estimate has no marks."""
    brackets = " Brackets are 95 % intervals over prompts, for these trained models only."
    shown = any(c is not None for row in rows for c in (row.versus_baseline, row.versus_base))
    if max(row.planned_seeds for row in rows) < 2:
        why = "every cell has one training seed, and the same recipe at another seed may look as different."
    else:
        why = "no comparison has two finished training seeds and two prompts yet."
    return f"No marks: {why}{brackets if shown else ''}"


def standing(row: Row) -> str:
    """``primary`` or ``exploratory``: whether a scorer decides."""
    return "primary" if row.primary else "exploratory"


def left_out(rows: Sequence[Row]) -> list[str]:
    """A line per scorer whose scores of some images were no finite numbers."""
    lost = {row.scorer: row for row in rows if row.images_left_out}
    return [
        f"{name}: {row.images_left_out} images are left out of every cell, without a finite score in "
        f"{', '.join(row.left_out_by)}"
        for name, row in lost.items()
    ]
