"""Figure ``compute``: the primary scorer against what a training computed.

Compute is counted, not timed, so it is the same on every machine: images through the network, where a pass with
gradients counts as 2.1, as in the prices of plans (``qsd.training.loss_cost`` says where that is from). What a pair
costs follows from its loss, with steps of one micro-batch each and without reference errors that another training had
left; an on-policy training counts its own passes. Decoding and scoring are not in it.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from typing import TYPE_CHECKING, Any

from matplotlib.transforms import offset_copy

from analysis.data.sweep import artefact
from analysis.document.sentences import split_title
from analysis.figures.drawing import LOOKS_CAPTION, Drawing, new_figure, styled
from qsd.losses import REGISTRY as LOSSES
from qsd.run_store import read_record
from qsd.training.loss_cost import BACKWARD, passes_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from analysis.data.rows import Comparison, Row
    from analysis.data.sweep import SweepFolder

NAME = "compute"
WITH_GRADIENTS = 1 + BACKWARD
"""Passes without gradients that one with gradients counts for."""
_COUNTED = {"network_passes", "pairs_seen"}
_SAME = 1.05
"""Most over least compute below which all cells count as equal, and nothing is drawn."""
_WIDE_RANGE = 10
_BESIDE = 13
"""Points between cells of equal compute."""
_ROOM, _ROOM_BESIDE = 0.05, 0.25
"""Empty share of the range above and below, and on each side."""
_CAPTION = (
    "Difference under the primary scorer against the images that went through the network in training, a pass with "
    f"gradients counted {WITH_GRADIENTS:g} times; cells of equal compute stand side by side. Bars: 95 % intervals for "
    "new prompts and new training seeds. A filled marker may be called a difference."
)
_COLOURS = {"grid": "#0072B2", "control": "#D55E00"}


def passes(summary: Mapping[str, Any], meaning: Mapping[str, Any]) -> float:
    """Images through the network of one training; a pass with gradients counts ``WITH_GRADIENTS`` times.

    Args:
        summary: its ``summary.json``.
        meaning: of its record: the settings of the loss that are not their defaults.
    """
    if "network_passes" in summary:
        return float(summary["network_passes"] + WITH_GRADIENTS * summary["network_passes_trained"])
    loss = LOSSES.get(summary["loss"])
    given = {name: meaning[f"loss.{name}"] for name in loss.fields if f"loss.{name}" in meaning}
    return float(summary["pairs_seen"] * passes_of(loss, loss.settings(**given), whole_steps=True).forward_passes)


def read_passes(runs: Path, sweep: SweepFolder) -> dict[str, float]:
    """Cell -> mean over its finished trainings; without those whose loss no longer exists."""
    means: dict[str, float] = {}
    for cell in sweep.cell_names():
        folders = [artefact(runs, "train", replicate.stages.get("train")) for replicate in sweep.of_cell(cell)]
        counts = [count for folder in folders if folder is not None for count in _counted(folder)]
        if counts:
            means[cell] = statistics.fmean(counts)
    return means


def _counted(folder: Path) -> list[float]:
    """The passes of a finished training; empty where they are not known."""
    path, record = folder / "summary.json", read_record(folder)
    if record is None or not path.is_file():
        return []
    summary = json.loads(path.read_text(encoding="utf-8"))
    if not _COUNTED & summary.keys() or ("network_passes" not in summary and summary.get("loss") not in LOSSES.names()):
        return []
    return [passes(summary, record.meaning)]


def compute_figure(sweep: SweepFolder, rows: Sequence[Row], compute: Mapping[str, float]) -> Drawing | None:
    """Difference to the base model (to the baseline where there is none) against compute; None if all is equal.

    Args:
        sweep: its name and question.
        rows: of the whole table.
        compute: of :func:`read_passes`.
    """
    shown = [row for row in rows if row.primary and row.cell in compute and not row.diverged]
    to_base = any(row.versus_base for row in shown)
    points = [(row, found) for row in shown if (found := row.versus_base if to_base else row.versus_baseline)]
    counts = [compute[row.cell] for row, _ in points]
    if len(points) < 2 or max(counts) < _SAME * min(counts):
        return None
    with styled({}):
        figure = new_figure(9, max(3.6, 1.2 + 0.19 * len(points)))
        axes: Any = figure.subplots()
        axes.axhline(0, color="#666666", linewidth=1, zorder=0)
        crowd = Counter(counts)
        drawn: Counter[float] = Counter()
        for number, (row, comparison) in enumerate(points, start=1):
            across = compute[row.cell]
            # Cells of equal compute stand side by side, a few points apart.
            beside = _BESIDE * (drawn[across] - (crowd[across] - 1) / 2)
            drawn[across] += 1
            _point(axes, (across, beside), number, row, comparison)
        if min(counts) > 0 and max(counts) / min(counts) >= _WIDE_RANGE:
            axes.set_xscale("log")
        axes.set_xlabel("images through the network in training")
        axes.set_ylabel(f"{shown[0].unit}, minus {'base model' if to_base else 'baseline'}")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_title(f"{shown[0].scorer} (primary), {split_title(shown[0].split)}")
        _set_limits(axes, counts, [comparison for _, comparison in points])
        names = "\n".join(f"{number:>2}  {row.cell}" for number, (row, _) in enumerate(points, start=1))
        axes.text(1.02, 1, names, transform=axes.transAxes, va="top", fontsize=8)
    return Drawing(NAME, figure, f"{_CAPTION} {LOOKS_CAPTION}" if sweep.looks else _CAPTION)


def _set_limits(axes: Any, counts: Sequence[float], comparisons: Sequence[Comparison]) -> None:
    """Limits around all intervals; matplotlib does not count what stands beside its place."""
    intervals = [each.estimate.interval for each in comparisons if each.estimate]
    heights = [0.0, *(each.difference for each in comparisons), *(end for i in intervals for end in (i.low, i.high))]
    room = _ROOM * ((max(heights) - min(heights)) or 1)
    axes.set_ylim(min(heights) - room, max(heights) + room)
    if axes.get_xscale() == "log":
        factor = (max(counts) / min(counts)) ** _ROOM_BESIDE
        axes.set_xlim(min(counts) / factor, max(counts) * factor)
    else:
        beside = _ROOM_BESIDE * (max(counts) - min(counts))
        axes.set_xlim(min(counts) - beside, max(counts) + beside)


def _point(axes: Any, place: tuple[float, float], number: int, row: Row, comparison: Comparison) -> None:
    """``place``: compute, and points to the right of it."""
    across, beside = place
    moved = offset_copy(axes.transData, axes.figure, x=beside, units="points")
    colour = "#000000" if row.is_baseline else _COLOURS[row.role]
    if comparison.estimate:
        interval = comparison.estimate.interval
        axes.plot(
            [across] * 2, [interval.low, interval.high], "_-", color=colour, linewidth=0.8, alpha=0.5, transform=moved
        )
    face = colour if comparison.marked else "white"
    style = {"color": colour, "markerfacecolor": face, "markersize": 5, "zorder": 3, "transform": moved}
    axes.plot(across, comparison.difference, "o", **style)
    at = (across, comparison.difference)
    axes.annotate(str(number), at, xytext=(beside + 4, 3), textcoords="offset points", fontsize=7, color=colour)
