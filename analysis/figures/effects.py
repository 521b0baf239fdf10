"""Figure ``effects``: differences to the baseline and to the base model with intervals, one column per scorer."""

from __future__ import annotations

import textwrap
from itertools import groupby
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D

from analysis.document.formatting import break_lines, cell_marks, format_diverged, has_estimates
from analysis.document.sentences import conflicts, partial, primary_or_exploratory, prompt_count, split_title
from analysis.figures.drawing import LOOKS_CAPTION, Drawing, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.data.rows import Comparison, Row
    from analysis.data.sweep import SweepFolder

NAME = "effects"
_CAPTION = (
    "Differences to the baseline and to the base model. Thin lines with ends: 95 % intervals for new prompts and new "
    "training seeds; thick lines: over prompts, for these trained models. A filled marker may be called a difference."
)
# Okabe and Ito's colours, distinguishable with every common colour vision.
_COLOURS = {"baseline": "#000000", "grid": "#0072B2", "control": "#D55E00"}
_PANELS_PER_LINE = 4
_BASELINE, _BASE = "baseline", "base model"
_LABEL_CHARACTERS = 30
_NOTE_CHARACTERS = 15
"""Of a note, per inch."""
_STYLE = {"axes.spines.left": False}


def effects(sweep: SweepFolder, rows: list[Row]) -> Drawing | None:
    """Differences on the first split, one column per scorer.

    Above to the baseline, which answers the sweep's question, below to the base model. Thin lines with ends are
    intervals for new prompts and new training seeds, thick lines those over prompts for these trained models, small
    dots single seeds. A filled marker says that the difference may be called one. None where no cell was trained.
    """
    split = rows[0].split
    by_scorer = [list(group) for _, group in groupby((r for r in rows if r.split == split), key=lambda r: r.scorer)]
    panels = [
        (reference, of_scorer)
        for reference in (_BASELINE, _BASE)
        if any(_comparison(row, reference) for row in rows)
        for of_scorer in by_scorer
        # A scorer that gives the base model no number, as distance_to_base, compares nothing with it.
        if reference == _BASELINE or any(row.role == "base" for row in of_scorer)
    ] or [(_BASE, of_scorer) for of_scorer in by_scorer]
    columns = min(_PANELS_PER_LINE, len(by_scorer))
    lines = _lines(panels, columns)
    cells = [row for row in by_scorer[0] if row.role != "base"]
    if not cells:
        return None
    width = 2.6 + 2.5 * columns
    title = textwrap.wrap(sweep.question, max(30, int(width * 11)))
    subtitle = f"{split_title(split)} (n = {prompt_count(by_scorer[0])})"
    subtitle += f"; {note}" if (note := partial(rows)) else ""
    # Inches that a cell takes: a line of its name and the space between cells.
    cell_height = max(0.38, 0.08 + 0.15 * max(_label(row).count("\n") + 1 for row in cells))
    heights = [0.9 + cell_height * len(_cells(line[0][1], line[0][0])) for line in lines]
    with styled(_STYLE):
        notes = [
            line
            for text in conflicts([row for panel in by_scorer for row in panel])
            for line in _wrapped_note(text, width)
        ]
        figure = new_figure(width, sum(heights) + 0.9 + 0.2 * len(title) + 0.16 * len(notes))
        figure.suptitle("\n".join([*title, subtitle]), x=0.01, ha="left", fontsize=11)
        grid = figure.add_gridspec(len(lines), columns, height_ratios=heights)
        for number, line in enumerate(lines):
            for column, (reference, of_scorer) in enumerate(line):
                axes = figure.add_subplot(grid[number, column])
                _panel(axes, of_scorer, reference, named=column == 0)
        _legend(figure, by_scorer, notes, looks=sweep.looks is not None)
    caption = f"{_CAPTION} {LOOKS_CAPTION}" if sweep.looks else _CAPTION
    return Drawing(NAME, figure, caption, _STYLE)


def _wrapped_note(text: str, width: float) -> list[str]:
    """Lines of a † note that fit in a figure of ``width`` inches."""
    return textwrap.wrap(f"† {text}", int(_NOTE_CHARACTERS * width), subsequent_indent="   ")


def _lines(panels: list[tuple[str, list[Row]]], columns: int) -> list[list[tuple[str, list[Row]]]]:
    """Panels line by line, each line of one reference."""
    lines: list[list[tuple[str, list[Row]]]] = []
    for _, group in groupby(panels, key=lambda panel: panel[0]):
        of_reference = list(group)
        lines += [of_reference[start : start + columns] for start in range(0, len(of_reference), columns)]
    return lines


def _comparison(row: Row, reference: str) -> Comparison | None:
    return row.versus_baseline if reference == _BASELINE else row.versus_base


def _cells(rows: list[Row], reference: str) -> list[Row]:
    return [row for row in rows if row.role != "base" and not (reference == _BASELINE and row.is_baseline)]


def _panel(axes: Axes, rows: list[Row], reference: str, named: bool) -> None:
    cells = _cells(rows, reference)
    axes.axvline(0, color="#666666", linewidth=1, zorder=0)
    for height, row in enumerate(cells):
        comparison = _comparison(row, reference)
        if row.diverged or comparison is None:
            text = format_diverged(row) if row.diverged else "not evaluated"
            across = axes.get_yaxis_transform()
            axes.text(0.03, height, text, transform=across, va="center", fontsize=8, color="#666666")
            continue
        colour = _COLOURS["baseline" if row.is_baseline else row.role]
        if comparison.estimate is not None:
            ends = comparison.estimate.interval
            axes.plot([ends.low, ends.high], [height] * 2, "|-", color=colour, linewidth=1, markersize=7, zorder=1)
        inner = comparison.these_models
        if inner is not None:
            axes.plot([inner.low, inner.high], [height] * 2, color=colour, linewidth=3.5, alpha=0.45, zorder=2)
        if len(comparison.by_seed) > 1:
            dots = list(comparison.by_seed.values())
            axes.plot(dots, [height + 0.27] * len(dots), ".", color=colour, alpha=0.6, markersize=5, zorder=2)
        face = colour if comparison.marked else "white"
        axes.plot(comparison.difference, height, "o", color=colour, markerfacecolor=face, markersize=7, zorder=3)
    conflict = any(row.conflicts for row in cells)
    if conflict:
        axes.set_facecolor("#f3f3f3")
    axes.set_title(f"{rows[0].scorer}{' †' if conflict else ''} ({primary_or_exploratory(rows[0])})", fontweight="bold")
    axes.set_xlabel(f"{rows[0].unit}, minus {reference}", fontsize=8)
    axes.set_yticks(range(len(cells)), [_label(row) if named else "" for row in cells])
    axes.set_ylim(len(cells) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.locator_params(axis="x", nbins=4)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _label(row: Row) -> str:
    name = f"{row.cell}{' (baseline)' if row.is_baseline else ''}{cell_marks(row).replace('†', '')}"
    return "\n".join(break_lines(name, lambda line: len(line) <= _LABEL_CHARACTERS))


def _legend(figure: Figure, by_scorer: list[list[Row]], notes: list[str], looks: bool) -> None:
    rows = [row for panel in by_scorer for row in panel]
    grey = "#444444"
    handles = []
    if has_estimates(rows):
        label = "95 %, new prompts and new training seeds"
        if looks:
            label = "new prompts and seeds, 95 %; primary: its look"
        handles.append(Line2D([], [], color=grey, marker="|", linewidth=1, markersize=7, label=label))
    handles.append(
        Line2D([], [], color=grey, linewidth=3.5, alpha=0.45, label="95 %, new prompts only (these trained models)")
    )
    if has_estimates(rows):
        handles.append(Line2D([], [], color=grey, marker=".", linestyle="", alpha=0.6, label="one training seed"))
        handles.append(Line2D([], [], color=grey, marker="o", linestyle="", label="may be called a difference"))
    handles.append(Line2D([], [], color=grey, marker="o", markerfacecolor="white", linestyle="", label="no mark"))
    for role, label in (("baseline", "baseline"), ("grid", "grid"), ("control", "control")):
        if any(("baseline" if row.is_baseline else row.role) == role for row in rows):
            handles.append(Line2D([], [], color=_COLOURS[role], linewidth=3.5, label=label))
    if any("‡" in cell_marks(row) for row in rows):
        handles.append(Line2D([], [], linestyle="", label="‡ training seeds missing"))
    figure.legend(
        handles=handles,
        title="\n".join(notes) or None,
        title_fontsize=8,
        alignment="left",
        loc="outside lower left",
        ncols=min(3, len(by_scorer)),
        frameon=False,
        fontsize=8,
    )
