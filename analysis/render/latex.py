"""The result tables as LaTeX for papers: rules of booktabs, half widths, marks, and the number of prompts and seeds."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING

from analysis.data.rows import FILE, read_rows
from analysis.data.sweep import read_sweep
from analysis.document.formatting import (
    ABSENT,
    cell_marks,
    decimals,
    difference_mark,
    format_diverged,
    format_interval,
    format_number,
    has_estimates,
    shown_interval,
    signed,
)
from analysis.document.looks import brief_rules, no_look, stopping_lines
from analysis.document.sentences import (
    capitalised,
    conflicts,
    few_prompts,
    left_out,
    missing_results,
    no_marks,
    noise_floor,
    partial,
    primary_or_exploratory,
    prompt_count,
    seeds_of,
    sensitivity,
    split_title,
)
from analysis.document.tuning import tuning_lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from analysis.data.rows import Comparison, Row
    from analysis.data.sweep import SweepFolder

_SPECIAL = {
    " %": r"\,\%",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "—": "---",
    "×": r"$\times$",
    "±": r"$\pm$",
    "−": "$-$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "°": r"$^\circ$",
    "β": r"$\beta$",
    "ψ": r"$\psi$",
    "σ": r"$\sigma$",
    "η": r"$\eta$",
}
_SIGNS = re.compile("|".join(map(re.escape, _SPECIAL)))
_MARKS = {"*": "{*}", "°": r"\circ", "†": r"\dagger", "‡": r"\ddagger"}
_HEADINGS = ("Cell", "Mean", "vs baseline", "vs base model", "Seeds")
_ROUNDING = 1e-9
"""An interval is symmetric if its middle is this near to the difference, as a share of its width."""


def render_latex(sweep_folder: Path) -> str:
    """The tables of a sweep whose ``rows.json`` is written."""
    return to_latex(read_sweep(sweep_folder), read_rows(sweep_folder / FILE))


def to_latex(sweep: SweepFolder, rows: Sequence[Row]) -> str:
    """A ``table`` environment per split and scorer, in the order of ``rows``; the preamble needs booktabs alone.

    A difference stands with the half width of its 95 % interval for new prompts and training seeds, on the primary
    scorer of a sweep with looks of the interval of the look, with one seed with its interval over prompts. The highest
    mean is bold only where its difference to the baseline is marked.

    Args:
        sweep: what ``cells.json`` says.
        rows: at least one.
    """
    groups = [list(group) for _, group in groupby(rows, key=lambda row: (row.split, row.scorer))]
    return "\n".join([_head(sweep), *(_table(sweep, group) for group in groups)])


def escaped(text: str) -> str:
    """Text without a sign that LaTeX takes as its own; Greek and signs of this project's tables as mathematics."""
    return _SIGNS.sub(lambda match: _SPECIAL[match[0]], text)


def _head(sweep: SweepFolder) -> str:
    comment = " ".join(f"{sweep.name} on {sweep.experiment}; git commit {sweep.git_commit}".split())
    return f"% {comment}\n% \\usepackage{{booktabs}}\n"


def _table(sweep: SweepFolder, rows: list[Row]) -> str:
    places, over_seeds = decimals(rows), has_estimates(rows)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_caption(sweep, rows)}}}\smallskip",
        rf"\label{{tab:{_label(f'{sweep.name}-{rows[0].split}-{rows[0].scorer}')}}}",
        r"\begin{tabular}{lrrrr}",
        r"\toprule",
        f"{' & '.join(_HEADINGS)} \\\\",
        r"\midrule",
        *_lines(rows, places, over_seeds),
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip",
        rf"\begin{{minipage}}{{\linewidth}}\footnotesize {_notes(sweep, rows, places)}\end{{minipage}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _caption(sweep: SweepFolder, rows: list[Row]) -> str:
    first = rows[0]
    images = max(row.images_per_prompt for row in rows)
    count = prompt_count(rows)
    size = f"{count} prompt{'s' * (count != 1)} × {images} image{'s' if images > 1 else ''}"
    what = f"{first.scorer} ({first.unit}), {primary_or_exploratory(first)}, {split_title(first.split)}, {size}"
    state = f" {capitalised(partial(rows))}." if partial(rows) else ""
    return escaped(f"{sweep.question} {what}.{state}")


def _label(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "-", name)


def _best(rows: list[Row]) -> Row | None:
    """The cell whose mean is the highest, if that may be said; a measure or symptom has no better end."""
    known = [row for row in rows if row.mean is not None and not row.diverged]
    if not known or not known[0].has_better_end:
        return None
    best = max(known, key=lambda row: row.mean or 0.0)
    versus = best.versus_baseline
    return best if versus is not None and versus.marked and versus.difference > 0 else None


def _lines(rows: list[Row], places: int, over_seeds: bool) -> list[str]:
    """A line per cell, with a little space where grid, controls and base model meet."""
    best, lines = _best(rows), []
    for above, row in zip([rows[0], *rows], rows, strict=False):
        lines += [r"\addlinespace"] if row.role != above.role else []
        lines.append(_line(row, places, over_seeds, bold=row is best))
    return lines


def _line(row: Row, places: int, over_seeds: bool, bold: bool) -> str:
    mean = format_number(row.mean, places).replace(ABSENT, "---")
    baseline = "baseline" if row.is_baseline and not row.diverged else _difference(row, row.versus_baseline, places)
    cells = [
        rf"\texttt{{{escaped(row.cell)}}}{_superscript(cell_marks(row))}",
        rf"\textbf{{{mean}}}" if bold else mean,
        baseline if over_seeds or row.is_baseline else _difference(row, row.versus_baseline, places, False),
        _difference(row, row.versus_base, places, over_seeds),
        escaped(seeds_of(row)),
    ]
    return f"{' & '.join(cells)} \\\\"


def _difference(row: Row, comparison: Comparison | None, places: int, over_seeds: bool = True) -> str:
    if row.diverged:
        return escaped(format_diverged(row))
    if comparison is None:
        return "---"
    interval, number = shown_interval(comparison, over_seeds), signed(comparison.difference, places)
    mark = difference_mark(comparison)
    if interval is None:
        return f"${number}$" if over_seeds else f"${number}$ ---"
    width = interval.high - interval.low
    if not over_seeds or abs((interval.low + interval.high) / 2 - comparison.difference) > _ROUNDING * width:
        return f"${number}$ ${format_interval(interval, places)}${_superscript(mark)}"
    # The mark takes no width, so that the digits of a column stand below each other.
    raised = rf"\rlap{{{_superscript(mark)}}}" if mark else ""
    return rf"${number} \pm {width / 2:.{places}f}${raised}"


def _superscript(marks: str) -> str:
    return f"$^{{{''.join(_MARKS[mark] for mark in marks)}}}$" if marks else ""


def _notes(sweep: SweepFolder, rows: list[Row], places: int) -> str:
    """What the signs mean, and what the table can and cannot show."""
    parts = []
    if has_estimates(rows):
        looks = rows[0].primary and sweep.looks is not None
        which = "interval of the look at which the cell stopped, all together 95 %," if looks else "95 % interval"
        parts.append(escaped(f"±: half of the {which} for new prompts and new training seeds."))
        used = {difference_mark(each) for row in rows for each in (row.versus_baseline, row.versus_base)}
        parts += [f"{escaped(sign)}: {escaped(text)}." for sign, text in brief_rules(sweep) if sign in used and sign]
    else:
        parts.append(escaped(no_look(rows, sweep.looks) or no_marks(rows)))
    parts += [f"{escaped(line)}." for line in stopping_lines(sweep)] if rows[0].primary else []
    parts += [f"{escaped(capitalised(line))}." for line in tuning_lines(sweep)]
    notes = [few_prompts(rows), noise_floor(rows), sensitivity(rows, places), *left_out(rows)]
    notes += [f"†: {line}" for line in conflicts(rows)]
    notes += [f"‡: {line}" for line in missing_results(rows)]
    parts += [f"{escaped(capitalised(line))}." for line in notes if line]
    return " ".join(parts)
