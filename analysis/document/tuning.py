"""The section of a document on how the settings of the cells were chosen, and its sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.data.tuning import DIVERGED, NO_SCORES, OPEN
from analysis.document.formatting import ABSENT
from analysis.document.model import Column, Note, Notes, Paragraph, Section, Table, TableCell, code, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.data.sweep import SweepFolder
    from analysis.data.tuning import TriedSetting, TunedCell, Tuning

_PLACES = 4
_STATES = {OPEN: "unfinished", DIVERGED: "diverged", NO_SCORES: "too few scores"}
_RULES = (
    """\
A tuning score is that of the best of several settings, on the prompts and trainings that chose it, so it looks better
than the setting is. The results above are of other prompts and other training seeds.""",
    "Between seeds: the standard deviation of the chosen setting's means over the tuning seeds.",
)


def number_text(value: Any) -> str:
    """A value as a reader would write it in YAML: ``4000``, ``0.001``, ``cosine``."""
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "null"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def setting_text(values: Mapping[str, Any]) -> str:
    """``loss.beta 4000, training.learning_rate 0.001``."""
    return ", ".join(f"{name} {number_text(value)}" for name, value in values.items())


def progress_text(tuning: Tuning) -> str:
    """``tuning: 12 of 40 trials``; what stops it, or empty once every cell has its settings."""
    if tuning.is_decided:
        return ""
    finished = f"tuning: {tuning.finished:,} of {len(tuning.trials):,} trials"
    stuck = [no_choice_text(name, tuning.cells[name]) for name in tuning.without_choice]
    return "; ".join([finished, *stuck])


def no_choice_text(name: str, cell: TunedCell) -> str:
    """Why no setting of a cell whose trials are finished can be chosen."""
    diverged = sum(setting.state == DIVERGED for setting in cell.settings)
    if diverged == len(cell.settings):
        return f"no setting of {name} can be chosen: all {diverged} diverged"
    return f"no setting of {name} can be chosen: {diverged} of {len(cell.settings)} diverged, the others lack scores"


def equal_budget(tuning: Tuning) -> str:
    """The sentence that says that every cell had the same chance."""
    drawn = " drawn at random" if tuning.sampler == "random" else ""
    seeds = f"{len(tuning.seeds)} seed{'s' * (len(tuning.seeds) != 1)}"
    return (
        f"Each cell was tuned over the same number of settings{drawn} ({tuning.budget}) on {tuning.prompts:,} "
        f"validation prompts (split {tuning.split}) with {seeds} ({', '.join(map(str, tuning.seeds))}), "
        f"by {tuning.judge}"
    )


def edge_lines(tuning: Tuning) -> list[str]:
    """``best at the edge of loss.beta: widen the range (dpo, sft)``: a line per field, with the cells concerned."""
    cells_of: dict[tuple[str, str], list[str]] = {}
    for name, cell in tuning.cells.items():
        for edge in cell.edges:
            cells_of.setdefault(edge, []).append(name)
    return [
        f"best at the edge of {field}, the {extreme} value that was tried: widen the range ({', '.join(cells)})"
        for (field, extreme), cells in cells_of.items()
    ]


def tuning_lines(sweep: SweepFolder) -> list[str]:
    """What a reader of a short table must know; none without tuning."""
    tuning = sweep.tuning
    if tuning is None:
        return []
    if not tuning.is_decided:
        return [progress_text(tuning)]
    return [equal_budget(tuning), *edge_lines(tuning)]


def tuning_section(sweep: SweepFolder) -> Section | None:
    """How the settings were chosen, or how far the trials are; None without tuning."""
    tuning = sweep.tuning
    if tuning is None:
        return None
    unit = tuning.unit
    columns = (
        Column("cell", "Cell", "left", "tuning"),
        Column("chosen", "Chosen setting", "left", "chosen"),
        Column("score", "Tuning score", brief="score", unit=unit),
        Column("between_seeds", "Between seeds", unit=unit),
        Column("lowest", "Lowest of the settings", brief="lowest", unit=unit),
        Column("second", "Second best", brief="second", unit=unit),
        Column("trials", "Trials", brief="trials"),
        Column("settings", "Settings not scored", "left"),
        Column("edge", "At the edge of", "left", "edge of"),
    )
    names = [name for name in sweep.cell_names() if name in tuning.cells]
    rows = tuple(_row(name, tuning.cells[name], len(tuning.seeds)) for name in names)
    notes = [Note(plain(f"{line[:1].upper()}{line[1:]}.")) for line in edge_lines(tuning)]
    notes += [Note(plain(rule)) for rule in _RULES] if tuning.is_decided else []
    by = f"{tuning.judge} ({unit})" if unit else tuning.judge
    head = equal_budget(tuning) if tuning.is_decided else progress_text(tuning)
    return Section(
        title="How the settings were chosen",
        anchor="tuning",
        blocks=(
            Paragraph(plain(f"{head[:1].upper()}{head[1:]}.")),
            Table("tuning-table", f"Tuning by {by}, split {tuning.split}", columns, rows),
            *([Notes(tuple(notes))] if notes else []),
        ),
        sections=(_tried(tuning, names),),
        brief=f"tuning by {by}",
    )


def _row(name: str, cell: TunedCell, seeds: int) -> tuple[TableCell, ...]:
    best = cell.best
    scores = sorted((setting.score for setting in cell.settings if setting.score is not None), reverse=True)
    finished, trials = sum(setting.finished for setting in cell.settings), seeds * len(cell.settings)
    unscored: dict[str, int] = {}
    for setting in cell.settings:
        if setting.state in _STATES:
            unscored[_STATES[setting.state]] = unscored.get(_STATES[setting.state], 0) + 1
    chosen = setting_text(best.values) if best else "none" if cell.is_complete else ABSENT
    return (
        TableCell(code(name), brief=name),
        TableCell(plain(chosen)),
        _score(best.score if best else None),
        _score(deviation(best) if best else None),
        _score(scores[-1] if scores else None),
        _score(scores[1] if len(scores) > 1 else None),
        TableCell(plain(f"{finished} of {trials}"), number=finished),
        TableCell(plain(", ".join(f"{count} {state}" for state, count in unscored.items()) or ABSENT)),
        TableCell(plain(", ".join(field for field, _ in cell.edges) or ABSENT)),
    )


def _tried(tuning: Tuning, names: list[str]) -> Section:
    """Every setting of every cell."""
    columns = (
        Column("cell", "Cell", "left"),
        Column("setting", "Setting", "left"),
        Column("score", "Tuning score", unit=tuning.unit),
        Column("by_seed", "Each seed", unit=tuning.unit),
    )
    rows = tuple(
        (
            TableCell(code(name)),
            TableCell(plain(f"{setting_text(setting.values)}{' (chosen)' if setting is cell.best else ''}")),
            _score(setting.score, _STATES.get(setting.state, ABSENT)),
            TableCell(plain(", ".join(f"{mean:.{_PLACES}f}" for mean in setting.by_seed) or ABSENT)),
        )
        for name in names
        for cell in (tuning.cells[name],)
        for setting in cell.settings
    )
    title = "All settings that were tried" if tuning.is_decided else "All settings"
    return Section(title, "tried", (Table("tried-table", title, columns, rows),))


def _score(number: float | None, absent: str = ABSENT) -> TableCell:
    return TableCell(plain(absent if number is None else f"{number:.{_PLACES}f}"), number=number)


def deviation(setting: TriedSetting) -> float | None:
    """Standard deviation (n - 1) of a setting's means over tuning seeds; None with one."""
    from statistics import stdev  # it imports much, and planning reads this module's sentences

    return stdev(setting.by_seed) if len(setting.by_seed) > 1 else None
