"""Figures ``wins`` and ``judges``: which cell's images win how often, and whether the judges agree.

``wins`` is for the primary scorer. ``judges`` holds Spearman's rank correlations of two judges: above the diagonal over
cells, of their mean scores; below it over images, of the differences to the base model's image of the same prompt and
noise (the mean over trained cells and seeds). A judge that labelled, selected or trained agrees with itself by design.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from analysis.document.formatting import break_lines
from analysis.document.sentences import split_title
from analysis.figures.drawing import Drawing, new_figure, styled
from analysis.statistics.differences import align
from qsd.evaluation.embedding_measures import MEASURES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from analysis.data.pairing import Cube, Panel
    from analysis.data.sweep import SweepFolder

    Floats = NDArray[np.float64]

WINS, JUDGES = "wins", "judges"
MOST_CELLS = 30
"""Cells of the win rates; more are not drawn."""
FEWEST_CELLS = 4
"""Trained cells that a rank correlation over cells needs."""
_LEAST_RANGE = 10.0
"""Percent from 50 that the deepest colour stands for at least."""
_WINS_CAPTION = (
    "Share of images of the row's cell that score higher than the column's of the same prompt, noise and training "
    "seed, under the primary scorer; ties count half. A share says nothing about new training seeds."
)
_JUDGES_CAPTION = (
    "Rank correlation (Spearman) of each two judges. Above the diagonal: over cells, of their means. Below: over "
    "images, of their differences to the base model's image of the same prompt and noise."
)
_LABEL_CHARACTERS = 24
_LINE_HEIGHT, _CHARACTER_WIDTH = 0.15, 0.075
"""Inches that a line and a letter of a label take."""


def wins_figure(sweep: SweepFolder, primary: Panel) -> Drawing | None:
    """The win rates of every two cells; None with fewer than three cells, or more than ``MOST_CELLS``."""
    cells = [cell for cell in sweep.cell_names() if cell in primary.cells]
    if not 3 <= len(cells) <= MOST_CELLS:
        return None
    title = f"Images of the row that win against the column, % ({primary.scorer}, {split_title(primary.split)})"
    shares = 100 * win_rates(primary, cells)
    far = max(_LEAST_RANGE, float(np.nanmax(np.abs(shares - 50)))) if np.isfinite(shares).any() else _LEAST_RANGE
    return _matrix(WINS, shares, cells, title, (50 - far, 50 + far), "{:.0f}", _WINS_CAPTION)


def win_rates(panel: Panel, cells: Sequence[str]) -> Floats:
    """[cells, cells] share in [0, 1] of (seed, prompt, image) that the row wins; NaN where no seed is shared."""
    rates: Floats = np.full((len(cells), len(cells)), np.nan)
    for row, column in combinations(range(len(cells)), 2):
        first, second = panel.cells[cells[row]], panel.cells[cells[column]]
        swapped = first.seeds == (None,)  # the base model has no seeds: it is the reference
        pairs = align(second, first) if swapped else align(first, second)
        if pairs is not None:
            rate = float(pairs.wins().mean())
            rates[row, column] = 1 - rate if swapped else rate
            rates[column, row] = 1 - rates[row, column]
    return rates


def judges_figure(sweep: SweepFolder, panels: Sequence[Panel]) -> Drawing | None:
    """The rank correlations on the primary split; None with one judge or fewer than ``FEWEST_CELLS`` trained cells."""
    judges = [panel for panel in panels if panel.split == sweep.primary.split and panel.scorer not in MEASURES]
    bases = {each.name: each.base for each in sweep.replicates if each.role != "base"}
    trained = [cell for cell in sweep.cell_names() if cell in bases and all(cell in judge.cells for judge in judges)]
    if len(judges) < 2 or len(trained) < FEWEST_CELLS:
        return None
    values = rank_agreement(judges, trained, bases)
    title = (
        f"Rank agreement of judges ({split_title(sweep.primary.split)}): over {len(trained)} cells above, images below"
    )
    return _matrix(JUDGES, values, [judge.scorer for judge in judges], title, (-1, 1), "{:+.2f}", _JUDGES_CAPTION)


def rank_agreement(judges: Sequence[Panel], trained: Sequence[str], bases: Mapping[str, str]) -> Floats:
    """[judges, judges] Spearman's correlations in [-1, 1].

    Above the diagonal over cells, of their means; below it over images (mean over cells and seeds; NaN without a base
    model or where the judges left out different prompts or images).

    Args:
        judges: panels of one split.
        trained: cells that all judges have.
        bases: trained cell -> the base model that its images are compared with.
    """
    values: Floats = np.full((len(judges), len(judges)), np.nan)
    for first, second in combinations(range(len(judges)), 2):
        one, other = judges[first], judges[second]
        means = [[judge.cells[cell].mean() for cell in trained] for judge in (one, other)]
        values[first, second] = _spearman(np.array(means[0]), np.array(means[1]))
        if one.prompts == other.prompts:
            compared = [cell for cell in trained if all(bases[cell] in judge.cells for judge in (one, other))]
            own = [_spearman(*each) for cell in compared for each in _image_differences(one, other, cell, bases[cell])]
            values[second, first] = float(np.mean(own)) if own else np.nan
    return values


def _image_differences(one: Panel, other: Panel, cell: str, base: str) -> list[tuple[Floats, Floats]]:
    """For every training seed that both have, the two judges' differences to the base model over images."""
    cubes = [(judge.cells[cell], judge.cells[base]) for judge in (one, other)]
    seeds = [seed for seed in cubes[0][0].seeds if seed in cubes[1][0].seeds]
    pairs = []
    for seed in seeds:
        first, second = (_of_seed(cube, seed) - reference.values[0] for cube, reference in cubes)
        both = np.isfinite(first) & np.isfinite(second)
        pairs.append((first[both], second[both]))
    return pairs


def _of_seed(cube: Cube, seed: int | None) -> Floats:
    values: Floats = cube.values[cube.seeds.index(seed)]
    return values


def _spearman(first: Floats, second: Floats) -> float:
    """NaN where one of them is constant."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first, second).statistic)


def _matrix(
    name: str, values: Floats, labels: Sequence[str], title: str, ends: tuple[float, float], form: str, caption: str
) -> Drawing:
    """A square matrix with a number in every field; the diagonal is empty."""
    wrapped = ["\n".join(break_lines(label, lambda line: len(line) <= _LABEL_CHARACTERS)) for label in labels]
    cell = max(0.5, _LINE_HEIGHT * max(label.count("\n") + 1 for label in wrapped))
    longest = _CHARACTER_WIDTH * max(len(line) for label in wrapped for line in label.split("\n"))
    side = longest + cell * len(labels)
    style = {"font.size": 8}
    with styled(style):
        figure = new_figure(max(1.6 + side, _CHARACTER_WIDTH * len(title)), 0.8 + side)
        axes: Any = figure.subplots()
        low, high = ends
        axes.imshow(values, vmin=low, vmax=high, cmap="PuOr")
        axes.set_xticks(range(len(labels)), wrapped, rotation=90)
        axes.set_yticks(range(len(labels)), wrapped)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for row, column in np.argwhere(np.isfinite(values)):
            far = abs(values[row, column] - (low + high) / 2) > 0.35 * (high - low)
            text = form.format(values[row, column])
            axes.text(column, row, text, ha="center", va="center", color="white" if far else "#222222")
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return Drawing(name, figure, caption, style)
