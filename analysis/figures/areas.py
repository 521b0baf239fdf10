"""Figure ``areas``: the area under the ROC curve of every detector of flipped labels, by cell, with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.figures.drawing import Drawing, new_figure, styled
from qsd.training.offpolicy.detection import DETECTORS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.figures.detector import Detected

NAME = "areas"
LABELS = {
    "metric": "u, the minority metric",
    "confidence": "confidence, its first factor",
    "minus_d": "-d",
    "margin": "m, the trained model's own margin",
    "base_margin": "r, the base model's margin",
    "minus_score_gap": "score gap of the reward model",
    "contradicts_scorer": "reward model contradicts",
    "contradicts_judge": "judge contradicts",
}
"""Detector -> its words in the legend."""
_CAPTION = (
    "Area under the ROC curve of each detector of flipped labels; 1/2 is chance. Bars are 95 % intervals (DeLong) for "
    "other pairs that the same trainings judge; points and bars are means over training seeds. A judge that made the "
    "labels is the ceiling."
)
_COLOURS = ("#D55E00", "#E69F00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#999999", "#000000")
_ROW = 0.55
"""Inches of a cell."""


def areas_figure(detected: Sequence[Detected]) -> Drawing | None:
    """A row for every cell, a point for every detector; None where no area is defined."""
    cells = list(dict.fromkeys(item.cell for item in detected))
    points = {name: [_mean(detected, cell, name) for cell in cells] for name in DETECTORS}
    drawn = {name: rows for name, rows in points.items() if any(row is not None for row in rows)}
    if not drawn:
        return None
    with styled({}):
        figure = new_figure(8.2, 1.8 + _ROW * len(cells))
        axes: Any = figure.subplots()
        for number, (name, rows) in enumerate(drawn.items()):
            shift = 0.8 * ((number + 0.5) / len(drawn) - 0.5)
            known = [(place + shift, *row) for place, row in enumerate(rows) if row is not None]
            heights, middles, lows, highs = (np.array(column) for column in zip(*known, strict=True))
            colour = _COLOURS[DETECTORS.index(name)]
            axes.hlines(heights, lows, highs, color=colour, linewidth=1.2)
            axes.plot(middles, heights, "o", color=colour, markersize=4, label=LABELS[name])
        axes.axvline(0.5, color="#888888", linestyle="--", linewidth=0.8)
        axes.set_yticks(range(len(cells)), cells)
        axes.set_ylim(len(cells) - 0.5, -0.5)
        axes.set_xlabel("area under the ROC curve")
        axes.set_title("How well each detector finds flipped labels")
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return Drawing(NAME, figure, _CAPTION)


def _mean(detected: Sequence[Detected], cell: str, name: str) -> tuple[float, float, float] | None:
    """Area, and the ends of its interval, mean over the seeds of a cell; None where no seed has an area."""
    rows = []
    for item in detected:
        area = item.detection.areas()[name] if item.cell == cell else None
        if area is not None:
            low, high = item.detection.intervals()[name] or (area, area)
            rows.append((area, low, high))
    if not rows:
        return None
    middle, low, high = np.mean(rows, axis=0).tolist()
    return middle, low, high
