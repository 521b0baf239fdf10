"""``effects.png``: what each cell gains over the base model, with intervals, one panel per scorer."""

from __future__ import annotations

import io
import math
import textwrap
from itertools import groupby
from typing import TYPE_CHECKING, Any

from analysis.wording import marks, split_title
from analysis.wrapping import wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.rows import Row
    from analysis.sweep import Sweep

# Okabe and Ito's colours, distinguishable with every common colour vision.
_COLOURS = {"baseline": "#000000", "grid": "#0072B2", "control": "#D55E00"}
_PANELS_PER_LINE = 4
_LABEL_CHARACTERS = 30
_DPI = 120
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
}


def effects_png(sweep: Sweep, rows: list[Row]) -> bytes:
    """Difference to the base model on the first (held-out) split; the same rows give the same bytes.

    Thick lines are intervals over prompts, thin lines over training seeds and prompts, small dots single seeds; a
    hollow marker says that the scorer selected the cell's training data.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    split = rows[0].split
    by_scorer = [list(group) for _, group in groupby((r for r in rows if r.split == split), key=lambda r: r.scorer)]
    cells = [row for row in by_scorer[0] if row.role != "base"]
    columns = min(_PANELS_PER_LINE, len(by_scorer))
    lines = math.ceil(len(by_scorer) / columns)
    width = 2.6 + 2.5 * columns
    title = textwrap.wrap(sweep.question, max(30, int(width * 11)))
    about = f"Difference to the base model, {split_title(split)} (n = {cells[0].prompts})"
    each = max(0.38, 0.08 + 0.15 * max(_label(row).count("\n") + 1 for row in cells))
    height = lines * (0.9 + each * len(cells)) + 0.9 + 0.2 * len(title)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle("\n".join([*title, about]), x=0.01, ha="left", fontsize=11)
        axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
        for number, panel in enumerate(axes.flat):
            if number < len(by_scorer):
                _panel(panel, by_scorer[number])
            else:
                panel.set_visible(False)
        _legend(figure, by_scorer)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _panel(axes: Axes, rows: list[Row]) -> None:
    cells = [row for row in rows if row.role != "base"]
    axes.axvline(0, color="#666666", linewidth=1, zorder=0)
    for height, row in enumerate(cells):
        if row.versus_base is None:
            axes.text(0, height, " not evaluated", va="center", fontsize=8, color="#666666")
            continue
        colour = _COLOURS["baseline" if row.is_baseline else row.role]
        over_prompts, over_both = row.versus_base.over_prompts, row.versus_base.over_seeds_and_prompts
        if over_both is not None:
            axes.plot([over_both.low, over_both.high], [height] * 2, color=colour, linewidth=1, zorder=1)
        axes.plot([over_prompts.low, over_prompts.high], [height] * 2, color=colour, linewidth=3.5, zorder=2)
        if len(row.versus_base.by_seed) > 1:
            dots = list(row.versus_base.by_seed.values())
            axes.plot(dots, [height + 0.27] * len(dots), ".", color=colour, alpha=0.6, markersize=5, zorder=2)
        face = "white" if row.selected_the_data else colour
        axes.plot(row.versus_base.difference, height, "o", color=colour, markerfacecolor=face, markersize=7, zorder=3)
    selects = any(row.selected_the_data for row in rows)
    if selects:
        axes.set_facecolor("#f3f3f3")
    axes.set_title(f"{rows[0].scorer}{' †' if selects else ''}", fontweight="bold")
    axes.set_xlabel(rows[0].unit, fontsize=8)
    axes.set_yticks(range(len(cells)), [_label(row) for row in cells])
    axes.set_ylim(len(cells) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.locator_params(axis="x", nbins=4)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _label(row: Row) -> str:
    name = f"{row.cell}{' (baseline)' if row.is_baseline else ''}{marks(row).replace('†', '')}"
    return "\n".join(wrap(name, lambda line: len(line) <= _LABEL_CHARACTERS))


def _legend(figure: Any, by_scorer: list[list[Row]]) -> None:
    from matplotlib.lines import Line2D

    rows = [row for panel in by_scorer for row in panel]
    grey = "#444444"
    handles = [Line2D([], [], color=grey, marker="o", linewidth=3.5, markersize=7, label="95 % over prompts")]
    if any(row.versus_base and row.versus_base.over_seeds_and_prompts for row in rows):
        handles.append(Line2D([], [], color=grey, linewidth=1, label="95 % over seeds and prompts"))
        handles.append(Line2D([], [], color=grey, marker=".", linestyle="", alpha=0.6, label="one training seed"))
    if any(row.selected_the_data for row in rows):
        label = "† scorer selected the data"
        handles.append(Line2D([], [], color=grey, marker="o", markerfacecolor="white", linestyle="", label=label))
    for role, label in (("baseline", "baseline"), ("grid", "grid"), ("control", "control")):
        if any(("baseline" if row.is_baseline else row.role) == role for row in rows):
            handles.append(Line2D([], [], color=_COLOURS[role], linewidth=3.5, label=label))
    if any("‡" in marks(row) for row in rows):
        handles.append(Line2D([], [], linestyle="", label="‡ training seeds missing"))
    per_line = min(_PANELS_PER_LINE, len(by_scorer) + 1)
    figure.legend(handles=handles, loc="outside lower left", ncols=per_line, frameon=False, fontsize=8)
