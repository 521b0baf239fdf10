"""The result table on a terminal, from the written ``rows.json`` alone, so that it shows at once."""

from __future__ import annotations

import io
from itertools import groupby
from typing import TYPE_CHECKING

from analysis.rows_json import NAME, read_rows
from analysis.sweep import read_sweep
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
    left_out,
    marks,
    no_marks,
    partial,
    percent,
    plain,
    prompts,
    seeds,
    sensitivity,
    split_title,
    spread,
    standing,
)
from analysis.wrapping import wrap
from qsd.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from analysis.rows import Row

_WIDTH = 110
_CELL_WIDTH = 22


def render_terminal(sweep_folder: Path) -> str:
    """The table of a sweep for a terminal of 110 columns: the held-out split, every scorer.

    Raises:
        UserError: the table has not been written yet.
    """
    from rich.console import Console

    path = sweep_folder / NAME
    if not path.is_file():
        raise UserError(f"{path}: no such file; 'ablate table' writes it")
    sweep, every = read_sweep(sweep_folder), read_rows(path)
    split = every[0].split
    rows = [row for row in every if row.split == split]
    over_seeds = has_estimates(rows)
    stream = io.StringIO()
    console = Console(file=stream, width=_WIDTH, color_system=None, highlight=False, markup=False)
    console.print(f"{sweep.name} on {sweep.experiment}, {split_title(split)} (n = {prompts(rows)})")
    console.print(sweep.question)
    if note := partial(rows):
        console.print(f"\n{note[0].upper()}{note[1:]}")
    for _, group in groupby(rows, key=lambda row: row.scorer):
        of_scorer = list(group)
        console.print(f"\n{of_scorer[0].scorer} ({of_scorer[0].unit}), {standing(of_scorer[0])}")
        console.print(_scorer_table(of_scorer))
    console.print(_trained(rows))
    console.print(_notes(every, rows, over_seeds))
    return stream.getvalue()


def _scorer_table(rows: list[Row]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, width=_WIDTH, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("cell", overflow="fold", ratio=1)
    over_seeds = has_estimates(rows)
    of = "95 %" if over_seeds else "these models"
    for heading in ("mean", f"vs baseline [{of}]", f"vs base model [{of}]", "wins", "seeds"):
        table.add_column(heading, justify="right", overflow="fold")
    places = decimals(rows)
    for row in rows:
        table.add_row(*_line(row, places, over_seeds))
    return table


def _line(row: Row, places: int, over_seeds: bool) -> list[str]:
    wins = percent(row.versus_base.win_rate) if row.versus_base and not row.diverged else ABSENT
    versus = [difference(row, each, places, over_seeds) for each in (row.versus_baseline, row.versus_base)]
    if row.is_baseline and not row.diverged:
        versus[0] = "baseline"
    aligned = [text if text.endswith(("*", "°")) else f"{text} " for text in versus]
    name = "\n".join(f"  {line}" for line in wrap(f"{row.cell}{marks(row)}", lambda line: len(line) <= _CELL_WIDTH))
    return [name, plain(row.mean, places), *aligned, wins, seeds(row, brief=True)]


def _trained(rows: list[Row]) -> Table:
    """What every cell was trained on."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, width=_WIDTH, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("trained on", overflow="fold", ratio=1)
    for heading in ("pairs", "of", "prompts", "images", "scorer against", "steps", "epochs"):
        table.add_column(heading, justify="right", overflow="fold")
    for row in {row.cell: row for row in rows if row.role != "base"}.values():
        found = row.trained
        counts = (spread(values) for values in (found.pairs, found.of, found.prompts, found.images))
        name = "\n".join(f"  {line}" for line in wrap(row.cell, lambda line: len(line) <= 2 * _CELL_WIDTH))
        table.add_row(name, *counts, against(row), spread(found.steps), spread(found.epochs, ".3g"))
    return table


def _notes(every: list[Row], rows: list[Row], over_seeds: bool) -> str:
    notes = [told] if (told := budget(rows)) else []
    if over_seeds:
        notes.append("[95 %] for new prompts and new training seeds of the same recipe")
        notes.append("*  would be there again: Holm over the column, at most 5 % of such columns have a false one")
        notes.append("°  exploratory (not the primary scorer): Benjamini-Hochberg, 5 % of these may be false")
    else:
        notes.append(no_marks(rows))
    first = [row for row in rows if row.scorer == rows[0].scorer]
    notes += [text for text in (floor(first), sensitivity(first, decimals(first))) if text]
    notes += [f"†  {line}" for line in conflicts(rows)]
    notes += [f"‡  {line}" for line in incomplete(rows)]
    notes += left_out(rows)
    others = sorted({row.split for row in every} - {rows[0].split})
    more = f"splits {', '.join(others)}, " if others else ""
    notes.append(f"wins: against the base model, ties halved; more in table.md: {more}seeds one by one")
    return "\n".join(notes)
