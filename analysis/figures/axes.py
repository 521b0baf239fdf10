"""Figures ``axes`` and ``heat`` and ``axes.csv``: the primary scorer over the axes of a sweep.

``axes`` has one panel per factor (``analysis.statistics.factors``): over a numeric one, lines of the differences to the
baseline with their bands; over another, the main effect of each level. ``heat`` is for sweeps of two factors.
"""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.document.formatting import break_lines, format_diverged
from analysis.document.sentences import split_title
from analysis.figures.drawing import Drawing, new_figure, styled
from analysis.statistics.factors import ABSENT, Effect, Factor, FactorGrid, effects, grid_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.data.pairing import Panel
    from analysis.data.rows import Row
    from analysis.data.sweep import SweepFolder
    from analysis.statistics.factors import Levels

AXES, HEAT = "axes", "heat"
TABLE = "axes.csv"
COLUMNS = (
    *("kind", "axis", "level", "from_level", "second_axis", "second_level", "second_from_level", "difference"),
    *("low", "high", "p", "settings"),
)
_AXES_CAPTION = (
    "The primary scorer over each axis. Lines: differences to the baseline; points: means over the settings of other "
    "axes of the difference to the baseline's level. Bands and bars: 95 % intervals for new prompts and new training "
    "seeds, not corrected for the number of comparisons. axes.csv has the numbers, and the interactions of two axes."
)
_LOOKS_CAPTION = (
    "Bands are the intervals of the looks at which cells stopped, together 95 %; bars are of the seeds that all of an "
    "effect's cells have."
)
_HEAT_CAPTION = "Differences to the baseline under the primary scorer; bold: may be called a difference."
# Okabe and Ito's colours, distinguishable with every common colour vision; styles tell lines apart in grey print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_LINES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2)))
_MARKERS = "os^Dv*"
_WIDE_RANGE = 10
"""Largest over smallest level from which on the axis is logarithmic."""
_CLOSEST_TICKS = 0.06
"""Share of the axis between two ticks from which both have their numbers."""
_PANELS_PER_LINE = 2
_LABEL_CHARACTERS = 26
_MOST_NUMBERED = 12
"""Levels of a factor up to which a heat map has numbers in its fields."""


@dataclass(frozen=True)
class Structure:
    """What the figures and the table show: the primary rows by cell, the grid, the effects."""

    question: str
    unit: str
    split: str
    scorer: str
    rows: dict[str, Row]
    grid: FactorGrid
    effects: tuple[Effect, ...]
    looks: bool = False


def read_structure(sweep: SweepFolder, rows: Sequence[Row], primary: Panel | None) -> Structure | None:
    """The structure of a sweep with at least two factors, or one of numbers; None for others.

    Args:
        sweep: its cells.
        rows: of the whole table.
        primary: the panel of the primary scorer and split; None where nothing is evaluated there.
    """
    grid = grid_of(sweep)
    shown = {row.cell: row for row in rows if row.primary}
    if primary is None or not shown or not (len(grid.factors) > 1 or any(f.numbers() for f in grid.factors)):
        return None
    return Structure(
        sweep.question,
        primary.unit,
        primary.split,
        primary.scorer,
        shown,
        grid,
        tuple(effects(grid, primary)),
        looks=sweep.looks is not None,
    )


def axes_csv(structure: Structure) -> str:
    """One line per main effect and interaction; numbers with nine significant digits, p without correction."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for effect in structure.effects:
        kind = "main effect" if len(effect.factors) == 1 else "interaction"
        names = [x for each in zip(effect.factors, effect.levels, effect.baselines, strict=True) for x in each]
        estimate = effect.estimate
        numbers = (estimate.interval.low, estimate.interval.high, estimate.p) if estimate else ()
        shown = [f"{number:.9g}" for number in (effect.difference, *numbers)]
        writer.writerow([kind, *names, *[""] * (6 - len(names)), *shown, *[""] * (4 - len(shown)), effect.settings])
    return stream.getvalue()


def axes_figure(structure: Structure) -> Drawing | None:
    """A panel per factor; None where no factor has anything to show yet."""
    panels = [panel for factor in range(len(structure.grid.factors)) if (panel := _panel_of(structure, factor))]
    if not panels:
        return None
    columns = min(_PANELS_PER_LINE, len(panels))
    lines = math.ceil(len(panels) / columns)
    width = 1 + 4.6 * columns
    title = textwrap.wrap(structure.question, int(width * 11))
    with styled({}):
        figure = new_figure(width, 3.3 * lines + 0.5 + 0.2 * len(title))
        subtitle = f"{structure.scorer} (primary), {split_title(structure.split)}"
        figure.suptitle("\n".join([*title, subtitle]), x=0.01, ha="left", fontsize=11)
        grid = figure.add_gridspec(lines, columns)
        for number, panel in enumerate(panels):
            panel.draw(figure.add_subplot(grid[number // columns, number % columns]), structure)
    return Drawing(AXES, figure, f"{_AXES_CAPTION} {_LOOKS_CAPTION}" if structure.looks else _AXES_CAPTION)


def heat_figure(structure: Structure) -> Drawing | None:
    """The differences to the baseline as a matrix; None unless the sweep has two factors."""
    grid = structure.grid
    if len(grid.factors) != 2:
        return None
    down, across = grid.factors
    values = np.full((len(down.levels), len(across.levels)), np.nan)
    texts: dict[tuple[int, int], tuple[str, bool]] = {}
    # Rows know of a diverged cell, the grid does not: its axes say where it stands.
    for row in structure.rows.values():
        place = _place(row, grid)
        if row.role != "grid" or place is None:
            continue
        comparison = row.versus_baseline
        if row.diverged:
            texts[place] = (format_diverged(row).replace(" ", "\n", 1), False)
        elif row.is_baseline:
            values[place], texts[place] = 0.0, ("baseline", False)
        elif comparison is not None:
            values[place], texts[place] = comparison.difference, (f"{comparison.difference:+.3g}", comparison.marked)
    if not np.isfinite(values).any():
        return None
    with styled({"font.size": 8}):
        figure = new_figure(2.6 + 0.8 * len(across.levels), 1.5 + 0.42 * len(down.levels))
        axes: Any = figure.subplots()
        limit = float(np.nanmax(np.abs(values))) or 1.0
        image = axes.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
        axes.set_xticks(range(len(across.levels)), [_text(level) for level in across.levels])
        axes.set_yticks(range(len(down.levels)), [_text(level) for level in down.levels])
        axes.set_xlabel(across.name)
        axes.set_ylabel(down.name)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if max(values.shape) <= _MOST_NUMBERED:
            for place, (text, marked) in texts.items():
                dark = abs(values[place]) > 0.7 * limit  # False where it is no number
                weight = "bold" if marked else "normal"
                colour = "white" if dark else "#222222"
                axes.text(place[1], place[0], text, ha="center", va="center", color=colour, fontweight=weight)
        bar = figure.colorbar(image, ax=axes, shrink=0.9)
        bar.ax.set_ylabel(f"{structure.unit}, minus baseline")
        bar.outline.set_visible(False)
        axes.set_title(f"{structure.scorer}, {split_title(structure.split)}")
    return Drawing(HEAT, figure, _HEAT_CAPTION, {"font.size": 8})


def _place(row: Row, grid: FactorGrid) -> tuple[int, int] | None:
    down, across = grid.factors
    axes = json.loads(row.axes)
    levels = [_level(axes, factor) for factor in (down, across)]
    if levels[0] not in down.levels or levels[1] not in across.levels:
        return None
    return down.levels.index(levels[0]), across.levels.index(levels[1])


def _level(axes: dict[str, Any], factor: Factor) -> str:
    axis = factor.axes[0]
    return json.dumps(axes[axis], ensure_ascii=False) if axis in axes else ABSENT


def _text(level: str) -> str:
    """A level as its axis shows it."""
    if level == ABSENT:
        return "(none)"
    value = json.loads(level)
    text = value if isinstance(value, str) else level
    return "\n".join(break_lines(text, lambda line: len(line) <= _LABEL_CHARACTERS))


@dataclass(frozen=True)
class _Lines:
    """Differences to the baseline over a numeric factor: a line per setting of the other factors."""

    factor: Factor
    by_setting: dict[str, list[tuple[float, Row]]]

    def draw(self, axes: Any, structure: Structure) -> None:
        axes.axhline(0, color="#666666", linewidth=1, zorder=0)
        for number, (label, points) in enumerate(self.by_setting.items()):
            colour = _COLOURS[number % len(_COLOURS)]
            levels = [level for level, _ in points]
            means = [0.0 if row.is_baseline else row.versus_baseline.difference for _, row in points]  # type: ignore[union-attr]
            line, marker = _LINES[number % len(_LINES)], _MARKERS[number % len(_MARKERS)]
            axes.plot(levels, means, linestyle=line, marker=marker, markersize=5, color=colour, label=label, zorder=3)
            ends = [_ends(row) for _, row in points]
            axes.fill_between(levels, [low for low, _ in ends], [high for _, high in ends], color=colour, alpha=0.15)
        values = [level for points in self.by_setting.values() for level, _ in points]
        if min(values) > 0 and max(values) / min(values) >= _WIDE_RANGE:
            axes.set_xscale("log")
        ticks = sorted(set(values))
        axes.set_xticks(ticks, _apart(ticks, log=axes.get_xscale() == "log"))
        axes.set_xticks([], minor=True)
        axes.set_xlabel(self.factor.axes[0])
        axes.set_ylabel(f"{structure.unit}, minus baseline")
        if len(self.by_setting) > 1:
            axes.legend(frameon=False, fontsize=8)


def _apart(ticks: Sequence[float], log: bool) -> list[str]:
    """A text per tick, empty where it would touch the one before it."""
    places = [math.log(tick) if log else tick for tick in ticks]
    least = _CLOSEST_TICKS * (places[-1] - places[0])
    texts, last = [], -math.inf
    for tick, place in zip(ticks, places, strict=True):
        texts.append(f"{tick:g}" if place - last >= least else "")
        last = place if texts[-1] else last
    return texts


@dataclass(frozen=True)
class _Points:
    """The main effect of each level of a factor."""

    factor: Factor
    effects: list[Effect]

    def draw(self, axes: Any, structure: Structure) -> None:
        axes.axvline(0, color="#666666", linewidth=1, zorder=0)
        for height, effect in enumerate(self.effects):
            if effect.estimate:
                interval = effect.estimate.interval
                axes.plot([interval.low, interval.high], [height] * 2, "|-", color=_COLOURS[0], linewidth=1)
            axes.plot(effect.difference, height, "o", color=_COLOURS[0], markerfacecolor="white", zorder=3)
        axes.set_yticks(range(len(self.effects)), [_text(effect.levels[0]) for effect in self.effects])
        axes.set_ylim(len(self.effects) - 0.5, -0.5)
        axes.set_title(f"{self.factor.axes[0]}, minus {_text(self.factor.baseline)}")
        axes.set_xlabel(f"{structure.unit}, mean over the other axes")


def _ends(row: Row) -> tuple[float, float]:
    """Ends of the band; those of the line itself where there is no interval."""
    comparison = row.versus_baseline
    if row.is_baseline or comparison is None:
        return 0.0, 0.0
    interval = comparison.estimate.interval if comparison.estimate else None
    return (interval.low, interval.high) if interval else (comparison.difference, comparison.difference)


def _panel_of(structure: Structure, number: int) -> _Lines | _Points | None:
    """Lines where the factor is numeric and the others have few settings, else the main effects."""
    factor = structure.grid.factors[number]
    lines = _lines(structure, number) if factor.numbers() else {}
    if lines and len(lines) <= len(_COLOURS):
        return _Lines(factor, lines)
    own = [effect for effect in structure.effects if effect.factors == (factor.name,)]
    return _Points(factor, own) if own else None


def _lines(structure: Structure, number: int) -> dict[str, list[tuple[float, Row]]]:
    """Setting of the other factors -> (level, row) with a difference, by level; settings of one level are no line.

    Levels that decide another axis that is no number, as the steps of each method may, are joined within that axis.
    """
    factor = structure.grid.factors[number]
    kinds = dict(zip(factor.levels, factor.kinds, strict=True)) if factor.kinds else {}
    by_setting: dict[tuple[str, Levels], list[tuple[float, Row]]] = {}
    for place, cell in structure.grid.cells.items():
        row = structure.rows.get(cell)
        if row is not None and (row.is_baseline or row.versus_baseline is not None):
            others = (*place[:number], *place[number + 1 :])
            by_setting.setdefault((kinds.get(place[number], ""), others), []).append(
                (float(json.loads(place[number])), row)
            )
    names = [factor.name for factor in (*structure.grid.factors[:number], *structure.grid.factors[number + 1 :])]
    lines = {}
    for (kind, setting), points in by_setting.items():
        if len(points) > 1:
            parts = [f"{name}={_text(level)}" for name, level in zip(names, setting, strict=True) if level != ABSENT]
            lines[", ".join([kind, *parts] if kind else parts)] = sorted(points, key=lambda point: point[0])
    return lines
