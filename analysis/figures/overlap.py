"""How much the selections of a sweep have in common: ``overlap.csv`` and the figure ``overlap``."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.data.sweep import artefact
from analysis.document.formatting import break_lines
from analysis.figures.drawing import Drawing, new_figure, styled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from analysis.data.sweep import SweepFolder

NAME = "overlap"
TABLE = "overlap.csv"
_CAPTION = "How many of the row's pairs the column keeps too."
MOST_SELECTIONS = 60
"""Selections beyond this number are left out, in the order of the table."""
_NUMBERED = 16
_LABEL_CHARACTERS = 26
_LINE_HEIGHT, _CHARACTER_WIDTH = 0.15, 0.075
"""Inches that a line and a letter of a label take."""
_STYLE = {"font.size": 8}
COLUMNS = ("first", "second", "kept_first", "kept_second", "both", "share_of_first", "jaccard")


@dataclass(frozen=True)
class Overlap:
    """n selections, each different from the others.

    Attributes:
        labels: the cells of each, with the seed where not all seeds of a cell have the same pairs.
        kept: pairs of each [n].
        both: pairs that two have in common [n, n].
    """

    labels: tuple[str, ...]
    kept: NDArray[np.int64]
    both: NDArray[np.int64]

    def share_of_first(self) -> NDArray[np.float64]:
        """[n, n] share of the row's pairs that the column keeps too, in [0, 1]."""
        share: NDArray[np.float64] = self.both / self.kept[:, None]
        return share

    def jaccard(self) -> NDArray[np.float64]:
        """[n, n] pairs in both / pairs in either, in [0, 1]."""
        either = self.kept[:, None] + self.kept[None, :] - self.both
        jaccard: NDArray[np.float64] = self.both / either
        return jaccard


def read_overlap(runs: Path, sweep: SweepFolder) -> Overlap | None:
    """The overlap of the finished selections; None with fewer than two different ones.

    Selections of the same pairs are one, whatever they make of labels and weights.
    """
    keys = dict.fromkeys(key for cell in sweep.cell_names() for key in _selections(sweep, cell).values())
    folders = {key: folder for key in keys if (folder := artefact(runs, "select", key)) is not None}
    chosen = list(folders)[:MOST_SELECTIONS]
    if len(chosen) < 2:
        return None
    columns = [pq.read_table(folders[key] / "selected.parquet", columns=["pair_id"])["pair_id"] for key in chosen]
    pair_ids = pa.chunked_array([chunk for column in columns for chunk in column.chunks]).dictionary_encode()
    chunks: list[Any] = pair_ids.unify_dictionaries().chunks
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in chunks])
    kept = np.array([len(column) for column in columns])
    member = np.zeros((len(chosen), codes.max() + 1), dtype=np.float32)
    member[np.repeat(np.arange(len(chosen)), kept), codes] = 1
    # Counts of common pairs as one matrix product; float32 is exact up to 16 million pairs.
    both = np.rint(member @ member.T).astype(np.int64)
    equal = (both == kept[:, None]) & (both == kept[None, :])
    first_equal = equal.argmax(axis=1)
    firsts = np.unique(first_equal)
    if len(firsts) < 2:
        return None
    representative = {key: chosen[first] for key, first in zip(chosen, first_equal, strict=True)}
    labels = _labels(sweep, representative)
    return Overlap(tuple(labels[chosen[first]] for first in firsts), kept[firsts], both[np.ix_(firsts, firsts)])


def _selections(sweep: SweepFolder, cell: str) -> dict[int | None, str]:
    """Seed -> key of the selection."""
    return {each.seed: each.stages["select"] for each in sweep.of_cell(cell) if "select" in each.stages}


def _labels(sweep: SweepFolder, representative: Mapping[str, str]) -> dict[str, str]:
    """Label of every selection by the key of the first with the same pairs, which ``representative`` holds by key."""
    users: dict[str, list[str]] = {}
    for cell in sweep.cell_names():
        selections = {
            seed: representative[key] for seed, key in _selections(sweep, cell).items() if key in representative
        }
        several = len(set(selections.values())) > 1
        for seed, key in selections.items():
            name = f"{cell} seed {seed}" if several else cell
            names = users.setdefault(key, [])
            if name not in names:
                names.append(name)
    return {key: _joined(names) for key, names in users.items()}


def _joined(names: list[str]) -> str:
    return " = ".join(names) if len(names) <= 2 else f"{names[0]} and {len(names) - 1} more"


def overlap_csv(overlap: Overlap) -> str:
    """One line per ordered pair of selections; shares in [0, 1] with nine significant digits."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    share, jaccard = overlap.share_of_first(), overlap.jaccard()
    for row, first in enumerate(overlap.labels):
        for column, second in enumerate(overlap.labels):
            if row != column:
                counts = (overlap.kept[row], overlap.kept[column], overlap.both[row, column])
                shares = (f"{matrix[row, column]:.9g}" for matrix in (share, jaccard))
                writer.writerow([first, second, *map(int, counts), *shares])
    return stream.getvalue()


def overlap_figure(overlap: Overlap) -> Drawing:
    """Heat map of ``share_of_first`` in the order of the table."""
    count = len(overlap.labels)
    labels = [_wrapped(label, count) for label in overlap.labels]
    # Inches; a selection takes at least the lines of its label.
    cell = max(0.62 if count <= _NUMBERED else 0.24, _LINE_HEIGHT * max(label.count("\n") + 1 for label in labels))
    longest = _CHARACTER_WIDTH * max(len(line) for label in labels for line in label.split("\n"))
    side = longest + cell * count
    with styled(_STYLE):
        figure = new_figure(2.2 + side, 0.8 + side)
        _fill(figure, overlap, labels)
    return Drawing(NAME, figure, _CAPTION, _STYLE)


def _wrapped(label: str, count: int) -> str:
    most = _LABEL_CHARACTERS if count <= _NUMBERED else 2 * _LABEL_CHARACTERS
    return "\n".join(break_lines(label, lambda line: len(line) <= most))


def _fill(figure: Figure, overlap: Overlap, labels: Sequence[str]) -> None:
    count, share = len(overlap.labels), overlap.share_of_first()
    axes: Any = figure.subplots()
    image = axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    rows = [f"{label} ({kept:,})" for label, kept in zip(labels, overlap.kept, strict=True)]
    axes.set_xticks(range(count), labels, rotation=90)
    axes.set_yticks(range(count), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if count <= _NUMBERED:
        for row in range(count):
            for column in range(count):
                dark = share[row, column] > 0.6
                text = f"{100 * share[row, column]:.0f}"
                axes.text(column, row, text, ha="center", va="center", color="white" if dark else "#222222")
    bar = figure.colorbar(image, ax=axes, shrink=0.7, ticks=[0, 0.5, 1])
    bar.ax.set_yticklabels(["0", "50", "100 %"])
    bar.outline.set_visible(False)
    figure.suptitle("Share of the row's pairs that the column keeps too, %", x=0.01, ha="left", fontsize=10)
