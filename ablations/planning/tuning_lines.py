"""Sentences about the tuning of a plan: how far its trials are, what was chosen, and what one cell of it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ablations.formatting import format_count
from ablations.grid.expand import TRIAL
from analysis.data.tuning import OPEN, SCORED
from analysis.document.tuning import edge_lines, no_choice_text, setting_text

if TYPE_CHECKING:
    from ablations.grid.expand import Cell
    from ablations.planning.plan import Plan
    from ablations.planning.trials import TuningProgress
    from analysis.data.tuning import Tuning

_MOST = 16


def tuning_lines(progress: TuningProgress | None) -> list[str]:
    """The tuning of a plan in a few lines; none without one."""
    if progress is None:
        return []
    record = progress.record
    lines = [_head(record)]
    if record.is_decided:
        chosen = [(name, cell.best) for name, cell in record.cells.items() if cell.best is not None]
        lines += [f"  {name}: {setting_text(best.values)} ({best.score:.4f})" for name, best in chosen[:_MOST]]
        if len(chosen) > _MOST:
            lines.append(f"  ... and {len(chosen) - _MOST:,} more cells ('ablate cells' prints all)")
        lines += [f"  {line}" for line in edge_lines(record)]
    lines += [f"  {line}" for line in problem_lines(progress)]
    return lines


def problem_lines(progress: TuningProgress | None) -> list[str]:
    """A line for every cell of which no setting can be chosen, with the remedy."""
    if progress is None:
        return []
    record, place = progress.record, progress.trials.tune.places["fields"]
    return [
        f"{no_choice_text(name, record.cells[name])}; give it other values in 'tune' ({place})"
        for name in record.without_choice
    ]


def _head(record: Tuning) -> str:
    cells = format_count(len(record.cells), "cell")
    size = (
        f"tuning: {len(record.trials):,} trials ({cells} x {record.budget} settings x "
        f"{format_count(len(record.seeds), 'seed')}) by {record.judge} on "
        f"{format_count(record.prompts, 'prompt')} of split {record.split}"
    )
    if record.is_decided:
        return f"{size}, all finished; chosen:"
    held = "" if record.is_complete else "; then every cell is trained for the report with its best setting"
    return f"{size}; {record.finished:,} finished{held}"


def cell_line(plan: Plan, cell: Cell) -> str:
    """What one cell of a plan has to do with the tuning; empty without one, and for the base model."""
    if plan.tuning is None:
        return ""
    record, trials = plan.tuning.record, plan.tuning.trials
    if cell.role == TRIAL:
        name, number = trials.places[cell.name]
        tuned = record.cells[name]
        setting = tuned.settings[number]
        about = f"setting {number + 1} of {len(tuned.settings)} of {name}, with tuning seed {cell.seed}"
        if setting.state == OPEN:
            return f"{about}: undecided"
        if setting.state != SCORED:
            return f"{about}: {setting.state}, so it is not chosen"
        outcome = "chosen" if number == tuned.chosen else "not chosen"
        return f"{about}: {outcome} ({setting.score:.4f})"
    tuned_cell = record.cells.get(cell.name)
    if tuned_cell is None:
        return ""
    if not record.is_decided:
        finished = f"{record.finished:,} of {len(record.trials):,} trials are finished"
        return f"after the tuning: its setting, and so its stages, are known then ({finished})"
    assert tuned_cell.best is not None
    return f"chosen by tuning: {setting_text(tuned_cell.best.values)} ({tuned_cell.best.score:.4f})"
