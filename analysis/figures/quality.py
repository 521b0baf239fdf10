"""Figure ``quality``: Q and scores of the pairs that a selection kept, against those of the pairs that it left out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.data.sweep import artefact
from analysis.document.formatting import break_lines
from analysis.figures.drawing import Drawing, new_figure, styled
from qsd.files import read_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from analysis.data.sweep import SweepFolder

    Floats = NDArray[np.float64]

NAME = "quality"
MOST_SELECTIONS = 12
"""Selections beyond this number are left out, in the order of the table."""
_BINS = 40
_LABEL_CHARACTERS = 26
_KEPT, _LEFT_OUT = "#0072B2", "#D55E00"
_CAPTION = (
    "Pairs that each selection kept (solid) and left out (dashed). Left: Q of the kept pairs and of all, from the 5th "
    "to the 95th percentile, with quartiles and median. Then: density of the scores of winners and losers; the "
    "outermost bins also hold the scores beyond. Selections that kept the same pairs are shown once, by the first "
    "training seed."
)


@dataclass(frozen=True)
class Kept:
    """One selection.

    Attributes:
        label: its cells.
        quality: percentile (5, 25, 50, 75, 95) -> Q of the kept pairs; empty where the selection ignores Q.
        quality_of: the same of all pairs.
        scorer: that Q was computed from; None where the cell read no scores.
        winners, losers: scores of all pairs [pairs], empty without a scorer.
        kept: which pairs it kept [pairs].
    """

    label: str
    quality: Mapping[str, float]
    quality_of: Mapping[str, float]
    scorer: str | None
    winners: Floats
    losers: Floats
    kept: NDArray[np.bool_]


def read_kept(runs: Path, sweep: SweepFolder) -> list[Kept]:
    """The finished selections, each different one once, by the first training seed of its cells."""
    names: dict[tuple[str, str | None], list[str]] = {}
    for cell in sweep.cell_names():
        stages = sweep.of_cell(cell)[0].stages
        folder = artefact(runs, "select", stages.get("select"))
        if folder is not None and (folder / "summary.json").is_file():
            names.setdefault((stages["select"], stages.get("score")), []).append(cell)
    kept = []
    for (select, score), cells in list(names.items())[:MOST_SELECTIONS]:
        label = cells[0] if len(cells) == 1 else f"{cells[0]} and {len(cells) - 1} more"
        kept.append(_read(label, artefact(runs, "select", select), artefact(runs, "score", score)))
    return kept


def _read(label: str, select: Path | None, score: Path | None) -> Kept:
    assert select is not None
    summary = json.loads((select / "summary.json").read_text(encoding="utf-8"))
    quality = (summary.get("quality_percentiles") or {}, summary.get("quality_percentiles_of") or {})
    nothing: Any = np.empty(0)
    if score is None:
        return Kept(label, *quality, None, nothing, nothing, nothing.astype(bool))
    scores = read_table(score / "scores.parquet")
    chosen = set(read_table(select / "selected.parquet")["pair_id"].to_pylist())
    kept = np.array([pair_id in chosen for pair_id in scores["pair_id"].to_pylist()], dtype=bool)
    winners, losers = (scores[name].to_numpy().astype(np.float64) for name in ("winner_score", "loser_score"))
    return Kept(label, *quality, str(scores["scorer"][0].as_py()), winners, losers, kept)


def quality_figure(selections: Sequence[Kept]) -> Drawing | None:
    """A line per selection: Q, scores of winners, scores of losers; None without any selection that knows one."""
    shown = [each for each in selections if each.quality or each.scorer]
    if not shown:
        return None
    style = {"font.size": 8}
    with styled(style):
        figure = new_figure(10, 0.9 + 1.15 * len(shown))
        figure.suptitle("Pairs that each selection kept (solid), and left out (dashed)", x=0.01, ha="left", fontsize=11)
        grid: Any = figure.subplots(len(shown), 3, squeeze=False)
        for line, selection in zip(grid, shown, strict=True):
            _quality(line[0], selection)
            for axes, scores, kind in ((line[1], selection.winners, "winners"), (line[2], selection.losers, "losers")):
                _density(axes, scores, selection.kept)
                axes.set_xlabel(f"{selection.scorer}, {kind}" if selection.scorer else "")
    return Drawing(NAME, figure, _CAPTION, style)


def _quality(axes: Any, selection: Kept) -> None:
    label = "\n".join(break_lines(selection.label, lambda line: len(line) <= _LABEL_CHARACTERS))
    axes.set_ylabel(label, rotation=0, ha="right", va="center")
    axes.set_yticks([0, 1], ["kept", "all"])
    axes.set_ylim(1.6, -0.6)
    axes.tick_params(axis="y", length=0)
    for height, values, colour in ((0, selection.quality, _KEPT), (1, selection.quality_of, "#666666")):
        if values:
            axes.plot([values["5"], values["95"]], [height] * 2, color=colour, linewidth=1)
            axes.plot([values["25"], values["75"]], [height] * 2, color=colour, linewidth=6, solid_capstyle="butt")
            axes.plot(values["50"], height, "|", color="white", markersize=7)
    if not (selection.quality or selection.quality_of):
        axes.text(0.5, 0.5, "does not use Q", transform=axes.transAxes, ha="center", va="center", color="#666666")
        axes.set_xticks([])
    else:
        axes.set_xlabel("Q")


def _density(axes: Any, scores: Floats, kept: NDArray[np.bool_]) -> None:
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if not len(scores):
        axes.set_xticks([])
        return
    low, high = np.percentile(scores, [0.5, 99.5])
    edges = np.linspace(low, high, _BINS + 1)
    # One extreme score must not squeeze all others together. At least two scores lie beyond these percentiles, a
    # quarter of eight pairs: the outermost bins count them.
    inside = scores.clip(low, high)
    for chosen, colour, line in ((kept, _KEPT, "-"), (~kept, _LEFT_OUT, "--")):
        if chosen.any() and edges[0] < edges[-1]:
            density, _ = np.histogram(inside[chosen], bins=edges, density=True)
            axes.stairs(density, edges, color=colour, linestyle=line, linewidth=1.3)
