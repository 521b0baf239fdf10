"""The section of ``docs/results.md`` about one sweep, from its ``rows.json``.

    python -m scripts.results.section runs/sweeps/loss@emoji/rows.json

Prints, for the primary scorer and each independent or labelling judge, the paired difference to the baseline with its
interval for new prompts and new training seeds, the corrected p value and the mark, and what the sweep could have seen.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.rows_json import read_rows
from analysis.wording import difference, disagree, diverged, floor, mark, sensitivity, standing

if TYPE_CHECKING:
    from analysis.comparison import Comparison
    from analysis.rows import Row

_PLACES = 4


def section(rows: list[Row], scorers: list[str] | None = None) -> list[str]:
    """Lines of Markdown: one table over the first split, a pair of columns per scorer, then a line per scorer."""
    shown = [row for row in rows if row.split == rows[0].split]
    by_scorer = {name: list(group) for name, group in groupby(shown, key=lambda row: row.scorer)}
    chosen = [name for name in by_scorer if scorers is None or name in scorers]
    headings = [f"`{name}` ({standing(by_scorer[name][0])}) minus baseline | p" for name in chosen]
    lines = [f"| cell | {' | '.join(headings)} | minus base model, `{chosen[0]}` |"]
    lines.append(f"|---|{'---:|' * (2 * len(chosen) + 1)}")
    for place, first in enumerate(by_scorer[chosen[0]]):
        if first.role == "base":
            continue
        cells = [f"`{first.cell.replace('|', '/')}`{' (baseline)' if first.is_baseline else ''}"]
        for name in chosen:
            row = by_scorer[name][place]
            cells += ["", ""] if row.is_baseline else [_difference(row, row.versus_baseline), _p(row.versus_baseline)]
        lines.append(f"| {' | '.join([*cells, _difference(first, first.versus_base)])} |")
    lines.append("")
    for name in chosen:
        of_scorer = by_scorer[name]
        notes = [text for text in (floor(of_scorer), sensitivity(of_scorer, _PLACES)) if text]
        lines.append(f"`{name}`: {'; '.join(notes)}.")
    return lines


def _difference(row: Row, comparison: Comparison | None) -> str:
    if row.diverged:
        return diverged(row)
    text = difference(row, comparison, _PLACES, over_seeds=True).replace("-", "−")
    if comparison is not None and mark(comparison) == "*":
        text = f"**{text.removesuffix('*')}**\\*"
    return f"{text} (seeds disagree)" if comparison is not None and disagree(row) else text


def _p(comparison: Comparison | None) -> str:
    return f"{comparison.mark.p_adjusted:.2g}" if comparison is not None and comparison.mark else "—"


def main(arguments: list[str]) -> None:
    """Print the section of the first argument; further ones name the scorers."""
    print("\n".join(section(read_rows(Path(arguments[0])), arguments[1:] or None)))


if __name__ == "__main__":
    main(sys.argv[1:])
