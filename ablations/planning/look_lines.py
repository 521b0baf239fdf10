"""Sentences about the looks of a plan: which cells are open, which have stopped and why, and what one seed is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ablations.formatting import format_count
from ablations.grid.expand import BASE
from analysis.data.looks import OPEN
from analysis.document.looks import reason_text, saved_line

if TYPE_CHECKING:
    from ablations.grid.expand import Cell
    from ablations.planning.look_progress import Progress
    from analysis.data.looks import Looks

_MOST = 12


def look_lines(progress: Progress | None) -> list[str]:
    """The looks of a plan in a few lines; none without looks."""
    if progress is None:
        return []
    looks = progress.record
    stopped = [(name, cell) for name, cell in looks.cells.items() if not cell.is_open]
    lines = [_head(progress)]
    lines += [f"  {name}: {reason_text(cell, looks)}" for name, cell in stopped[:_MOST]]
    if len(stopped) > _MOST:
        lines.append(f"  ... and {len(stopped) - _MOST:,} more stopped ('ablate cells' prints all)")
    return lines


def _head(progress: Progress) -> str:
    looks = progress.record
    counts = ", ".join(map(str, looks.counts))
    still_open = format_count(len(looks.open_cells), "comparison is open", "comparisons are open")
    if not looks.cells:
        return f"seeds in looks of {counts}: there is nothing to compare; the baseline has {looks.baseline_seeds} seeds"
    if not looks.open_cells:
        return f"seeds in looks of {counts}: all comparisons have stopped; {saved_line(looks)}"
    return (
        f"seeds in looks of {counts}: look {looks.taken + 1} ({looks.counts[looks.taken]} seeds) is under way, "
        f"{still_open}; {_at_most(looks)}"
    )


def _at_most(looks: Looks) -> str:
    """How many trainings later looks can add: the cells that are open now and the baseline up to the last look."""
    more = (len(looks.open_cells) + 1) * (looks.counts[-1] - looks.counts[looks.taken])
    return f"at most {format_count(more, 'training')} after it" if more else "it is the last"


def seed_line(progress: Progress, cell: Cell) -> str:
    """What one (cell, seed) is for: ``open: …``, ``stopped …``, ``not needed: …`` or ``later: …``.

    Args:
        progress: the looks.
        cell: one of ``progress.grid``.
    """
    looks = progress.record
    if cell.role == BASE:
        return "always needed"
    needed = int(cell.seed or 0) < progress.needed(cell.name)
    if cell.name == progress.baseline:
        if needed:
            return "baseline: as many seeds as the cell that has most"
        return _later(progress) if looks.open_cells else "not needed: all comparisons have stopped"
    state = looks.cells[cell.name]
    if state.reason == OPEN:
        return f"open: look {looks.taken + 1} of {len(looks.counts)}" if needed else _later(progress)
    reason = reason_text(state, looks)
    return reason if needed else f"not needed: {reason}"


def _later(progress: Progress) -> str:
    return f"later: only if it is still open after look {progress.record.taken + 1}"


def looks_as_json(progress: Progress) -> dict[str, Any]:
    """The looks for programs: what is under way, and where every comparison stands."""
    looks = progress.record
    return {
        "looks": list(looks.counts),
        "margin": looks.margin,
        "taken": looks.taken,
        "under_way": looks.taken + 1 if looks.open_cells else None,
        "needed": looks.needed,
        "most": looks.most,
        "cells": {
            name: {"state": "open" if cell.is_open else "stopped", "look": cell.look, "seeds": cell.seeds}
            | {"reason": None if cell.is_open else cell.reason}
            for name, cell in looks.cells.items()
        },
    }
