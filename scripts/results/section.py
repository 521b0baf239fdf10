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

from analysis.data.rows import read_rows
from analysis.document.formatting import difference_mark, format_difference, format_p, seeds_disagree
from analysis.document.sentences import noise_floor, primary_or_exploratory, sensitivity

if TYPE_CHECKING:
    from analysis.data.rows import Comparison, Row

_PLACES = 4


def section(rows: list[Row], scorers: list[str] | None = None) -> list[str]:
    """Lines of Markdown: one table over the first split, a pair of columns per scorer, then a line per scorer."""
    shown = [row for row in rows if row.split == rows[0].split]
    by_scorer = {name: list(group) for name, group in groupby(shown, key=lambda row: row.scorer)}
    chosen = [name for name in by_scorer if scorers is None or name in scorers]
    headings = [f"`{name}` ({primary_or_exploratory(by_scorer[name][0])}) minus baseline | p" for name in chosen]
    lines = [f"| cell | {' | '.join(headings)} | minus base model, `{chosen[0]}` |"]
    lines.append(f"|---|{'---:|' * (2 * len(chosen) + 1)}")
    for place, first in enumerate(by_scorer[chosen[0]]):
        if first.role == "base":
            continue
        cells = [f"`{first.cell.replace('|', '/')}`{' (baseline)' if first.is_baseline else ''}"]
        for name in chosen:
            row = by_scorer[name][place]
            cells += (
                ["", ""] if row.is_baseline else [_difference(row, row.versus_baseline), format_p(row.versus_baseline)]
            )
        lines.append(f"| {' | '.join([*cells, _difference(first, first.versus_base)])} |")
    lines.append("")
    for name in chosen:
        of_scorer = by_scorer[name]
        notes = [text for text in (noise_floor(of_scorer), sensitivity(of_scorer, _PLACES)) if text]
        lines.append(f"`{name}`: {'; '.join(notes)}.")
    return lines


def _difference(row: Row, comparison: Comparison | None) -> str:
    text = format_difference(row, comparison, _PLACES, over_seeds=True)
    if row.diverged:
        return text
    mark = difference_mark(comparison)
    text = text.replace("-", "−")
    text = f"**{text}**\\*" if mark == "*" else f"{text}{mark}"
    return f"{text} (seeds disagree)" if comparison is not None and seeds_disagree(row) else text


def main(arguments: list[str]) -> None:
    """Print the section of the first argument; further ones name the scorers."""
    print("\n".join(section(read_rows(Path(arguments[0])), arguments[1:] or None)))


if __name__ == "__main__":
    main(sys.argv[1:])
