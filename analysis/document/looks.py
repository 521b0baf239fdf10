"""Sentences and rules for sweeps whose seeds are added in looks (``analysis.statistics.looks``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.data.looks import (
    BASELINE_DIVERGED,
    DIFFERENT,
    DIVERGED,
    EQUIVALENT,
    NO_SCORES,
    OPEN,
    UNDECIDED,
)
from analysis.document.sentences import BRIEF_MARKED_RULES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.data.looks import CellLook, Looks
    from analysis.data.rows import Row
    from analysis.data.sweep import SweepFolder

_BRIEF_RULES = (
    ("", "primary scorer: [interval of the look at which the cell stopped], all together 95 %; other scorers: [95 %]"),
    ("*", "established at a look: at most 5 % of such sweeps have a false one, over all cells and looks"),
)
"""In place of the rules for brackets and ``*`` of a sweep without looks."""
_WHY = {
    DIFFERENT: "different from the baseline",
    EQUIVALENT: "within {margin} of the baseline",
    UNDECIDED: "the last look; neither different{nor}",
    DIVERGED: "a training diverged",
    BASELINE_DIVERGED: "no comparison, a training of the baseline diverged",
    NO_SCORES: "too few scores of a seed are numbers",
}
_BRIEF = {
    DIFFERENT: "different",
    EQUIVALENT: "within ±{margin}",
    UNDECIDED: "undecided",
    DIVERGED: "diverged",
    BASELINE_DIVERGED: "baseline diverged",
    NO_SCORES: "no scores",
}


def reason_text(cell: CellLook, looks: Looks) -> str:
    """``stopped at look 2 of 4 (5 seeds): within 0.01 of the baseline``, or ``open after look 1 of 4 (3 seeds)``."""
    of = f"look {cell.look} of {len(looks.counts)} ({cell.seeds} seeds)"
    if cell.reason == OPEN:
        return f"open after {of}" if cell.look else "open; no look is complete"
    margin = f"{looks.margin:g}" if looks.margin is not None else ""
    nor = f" nor within {margin}" if margin else ""
    return f"stopped at {of}: {_WHY[cell.reason].format(margin=margin, nor=nor)}"


def brief_reason(cell: CellLook, looks: Looks) -> str:
    """``2 of 4: different``: a column of the table."""
    if cell.reason == OPEN:
        return f"{cell.look} of {len(looks.counts)}: open" if cell.look else "open"
    margin = f"{looks.margin:g}" if looks.margin is not None else ""
    return f"{cell.look} of {len(looks.counts)}: {_BRIEF[cell.reason].format(margin=margin)}"


def saved_line(looks: Looks) -> str:
    """``31 of 50 trainings were needed: 38 % of the seeds saved``; while cells are open, what is saved at most."""
    needed = f"{looks.needed} of {looks.most} trainings"
    if looks.open_cells:
        return f"{needed} are needed so far"
    return f"{needed} were needed: {100 * looks.saved:.0f} % saved by stopping"


def stopping_lines(sweep: SweepFolder) -> list[str]:
    """Where every comparison stands, cells of one outcome in a line, and what was saved; none without looks."""
    looks = sweep.looks
    if looks is None:
        return []
    names: dict[str, list[str]] = {}
    for name in sweep.cell_names():
        if name in looks.cells:
            names.setdefault(reason_text(looks.cells[name], looks), []).append(name)
    lines = [f"{', '.join(cells)}: {reason}" for reason, cells in names.items()]
    return [*lines, saved_line(looks)]


def look_rules(sweep: SweepFolder) -> tuple[tuple[str, str], ...]:
    """(sign, text) of how intervals and marks of the primary scorer are made; none without looks."""
    looks = sweep.looks
    if looks is None:
        return ()
    counts = ", ".join(map(str, looks.counts))
    equal = f", within {looks.margin:g} where the interval is inside ±{looks.margin:g}" if looks.margin else ""
    text = f"""\
Seeds were added in looks of {counts}, to cells that were open against the baseline on {sweep.primary.scorer}, split
{sweep.primary.split}. There, brackets are **the interval of the look at which the cell stopped**, not a 95 % interval
of each difference: they are wider, and all of them, over cells and looks, hold together with 95 %. A cell is different
where its interval excludes zero{equal}. "p" is scaled so that 0.05 is the level of the look."""
    others = """\
All other scorers and splits were not looked at: their intervals are 95 % intervals of each difference, over the seeds
that the looks happened to ask for."""
    return (("", text), _BRIEF_RULES[1], ("", others))


def brief_rules(sweep: SweepFolder) -> tuple[tuple[str, str], ...]:
    """(sign, text) of how marks and intervals are made, for footnotes."""
    return (*_BRIEF_RULES, BRIEF_MARKED_RULES[-1]) if sweep.looks else BRIEF_MARKED_RULES


def no_look(rows: Sequence[Row], looks: Looks | None) -> str:
    """Why a primary table of a sweep with looks has no intervals yet; empty where another reason applies."""
    if looks is None or looks.taken or not rows[0].primary:
        return ""
    return f"No marks: look 1 of {len(looks.counts)} ({looks.counts[0]} seeds) is not complete."
