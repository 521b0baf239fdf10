"""``table.md``: the result table for readers, with notes and the origin of every number."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING

from analysis.wording import (
    ABSENT,
    against,
    budget,
    conflicts,
    decimals,
    difference,
    floor,
    has_estimates,
    incomplete,
    interval,
    left_out,
    marks,
    no_marks,
    partial,
    per_seed,
    percent,
    plain,
    prompts,
    seeds,
    sensitivity,
    split_title,
    spread,
    standing,
)

if TYPE_CHECKING:
    from analysis.comparison import Comparison
    from analysis.rows import Row
    from analysis.sweep import SweepFolder

_HEADINGS = [
    *("Cell", "Mean", "vs baseline", "vs base model", "p vs baseline", "Baseline, these models", "Base, these models"),
    *("Baseline, per seed", "Wins vs baseline", "Wins vs base model", "Seeds"),
]
_RULE = """\
- A difference is paired: the same prompts, initial noise and seed numbers on both sides. Its brackets are a 95 %
  interval for new prompts **and** new training seeds of the same recipe: the variance between seeds, moderated by that
  of the other comparisons of the column, plus the variance between prompts, with Satterthwaite's degrees of freedom.
- **Bold and \\***: the difference may be called one. On the primary scorer and split, p values are corrected by Holm
  for all comparisons of the column: at most 5 % of such columns hold a false mark.
- ° on the other scorers, which are exploratory: corrected by Benjamini-Hochberg, so 5 % of these marks may be false.
- "p vs baseline" is the corrected p value. Cells with a diverged or missing training have no mark.
- "These models": the percentile bootstrap interval over prompts (10,000 resamples) for these trained models. It says
  nothing of another training of the same recipe, and decides no mark.
- "Seeds disagree": a cell whose seeds vary more than three times (in variance) as much as those of the family; its
  interval may be too short."""
_NOTES = """\
- Wins: share of (seed, prompt, image) with the higher score, ties counted half, and its interval over prompts for these
  models; 50 % is no difference.
- Controls that draw their pairs by seed vary in subset and training alike. All seeds share one data set and its labels:
  the table speaks of this data.
- † this scorer is no independent judge of the cell; the reason is stated above the table.
- What was trained on: the pairs kept by the selection and how many there were, their different prompts and images, the
  share whose loser the scorer prefers (Scorer against), optimiser steps, epochs (uses of a pair), and the share of each
  style; a range where training seeds differ. What selections have in common is in `overlap.csv` and `overlap.png`.
- ‡ training seeds are missing from the mean or from a comparison; the column Seeds says which. Nothing stands in for
  them. A diverged training is a result: its cell has no mean over the other seeds."""
_SIMULATED = "- The preference labels behind the training pairs come from simulated annotators, not from people."


def to_markdown(sweep: SweepFolder, rows: list[Row]) -> str:
    """The whole table: held-out splits first, one table per scorer."""
    lines = [f"# {sweep.name} on {sweep.experiment}", "", sweep.question, ""]
    lines += [f"Baseline: {_code(sweep.baseline)}. Git commit: {_code(sweep.git_commit)}.", ""]
    if note := partial(rows):
        lines += [f"**{note[0].upper()}{note[1:]}.**", ""]
    if absent := incomplete(rows):
        lines += [*(f"- {_escaped(line)}" for line in absent), ""]
    for split, of_split in groupby(rows, key=lambda row: row.split):
        lines += [f"## Split {split_title(split)}", ""]
        for _, of_scorer in groupby(of_split, key=lambda row: row.scorer):
            lines += _scorer_table(list(of_scorer))
    lines += _trained(rows)
    notes = [_RULE if has_estimates(rows) else f"- {no_marks(rows)}", _NOTES]
    notes += [_SIMULATED] if sweep.labels == "simulated" else []
    lines += ["## How to read this", "", *notes, ""]
    return "\n".join([*lines, *_origin(rows), ""])


def _scorer_table(rows: list[Row]) -> list[str]:
    places = decimals(rows)
    first = rows[0]
    images = max(row.images_per_prompt for row in rows)
    size = f"{prompts(rows)} prompts × {images} image{'s' if images > 1 else ''}"
    over_seeds = has_estimates(rows)
    lines = [f"### {first.scorer} ({standing(first)})", ""]
    lines += [f"Unit: {first.unit}; revision {_code(first.revision)}; {size}.", ""]
    lines += [f"† {line}.  " for line in conflicts(rows)]
    lines += [f"{_escaped(line)}.  " for line in left_out(rows)]
    lines += [] if over_seeds else [f"{no_marks(rows)}  "]
    lines += [""] if lines[-1] else []
    lines += [_line(_HEADINGS), f"|---|{'---:|' * (len(_HEADINGS) - 1)}"]
    for row in rows:
        cells = [
            f"{_code(row.cell)}{' (baseline)' if row.is_baseline else ''}{marks(row)}",
            plain(row.mean, places),
            _bold(row, row.versus_baseline, places, over_seeds),
            _bold(row, row.versus_base, places, over_seeds),
            _p(row.versus_baseline),
            interval(row.versus_baseline.these_models if row.versus_baseline else None, places),
            interval(row.versus_base.these_models if row.versus_base else None, places),
            per_seed(row.versus_baseline, places),
            _wins(row.versus_baseline),
            _wins(row.versus_base),
            seeds(row),
        ]
        lines.append(_line(cells))
    below = [text for text in (floor(rows), sensitivity(rows, places)) if text]
    return [*lines, "", *(f"{text[0].upper()}{text[1:]}.  " for text in below), *([""] if below else [])]


def _trained(rows: list[Row]) -> list[str]:
    """What every cell was trained on, and for how long."""
    cells = [row for row in {row.cell: row for row in rows}.values() if row.role != "base"]
    styles = list(dict.fromkeys(style for row in cells for style, _ in row.trained.styles))
    headings = ["Cell", "Pairs", "of", "Prompts", "Images", "Scorer against", "Steps", "Epochs", *styles]
    lines = ["## What was trained on", "", *([told, ""] if (told := budget(rows)) else [])]
    lines += [_line(headings), f"|---|{'---:|' * (len(headings) - 1)}"]
    for row in cells:
        found, shares = row.trained, dict(row.trained.styles)
        values = [
            *(spread(counts) for counts in (found.pairs, found.of, found.prompts, found.images)),
            against(row),
            spread(found.steps),
            spread(found.epochs, ".3g"),
            *(f"{100 * shares.get(style, 0):.0f} %" if shares else ABSENT for style in styles),
        ]
        lines.append(_line([f"{_code(row.cell)}{' (baseline)' if row.is_baseline else ''}", *values]))
    return [*lines, ""]


def _origin(rows: list[Row]) -> list[str]:
    """Which cells, commit and data the numbers come from."""
    lines = ["## Origin of the numbers", "", _line(["Cell", "Role", "Cell ids", "Data"]), "|---|---|---|---|"]
    for row in {row.cell: row for row in rows}.values():
        ids = ", ".join(_code(cell_id) for cell_id in dict.fromkeys(row.cell_ids))
        digests = ", ".join(_code(key) for key in row.data_digest.split()) or ABSENT
        lines.append(_line([_code(row.cell), row.role, ids, digests]))
    return lines


def _bold(row: Row, comparison: Comparison | None, places: int, over_seeds: bool) -> str:
    text = difference(row, comparison, places, over_seeds)
    return f"**{text[:-1]}**\\*" if text.endswith("*") else text


def _p(comparison: Comparison | None) -> str:
    if comparison is None or comparison.mark is None:
        return ABSENT
    return f"{comparison.mark.p_adjusted:.2g}"


def _wins(comparison: Comparison | None) -> str:
    if comparison is None:
        return ABSENT
    low, high = comparison.win_rate_these_models.low, comparison.win_rate_these_models.high
    return f"{percent(comparison.win_rate)} [{100 * low:.1f}, {100 * high:.1f}]"


def _escaped(text: str) -> str:
    """Text of the user's in which Markdown sees no sign."""
    return re.sub(r"([\\`*<|])", r"\\\1", text)


def _code(text: str) -> str:
    return f"`{text.replace('|', '/').replace('`', chr(39))}`"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
