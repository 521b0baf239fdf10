"""How much the selections of a sweep have in common: ``overlap.csv`` and ``overlap.png``."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.sweep import artefact
from analysis.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from analysis.sweep import SweepFolder

FILES = ("overlap.csv", "overlap.png")
MOST = 60
"""Selections beyond this number are left out, in the order of the table."""
_NUMBERED = 16
_LABEL_CHARACTERS = 26
_LINE, _CHARACTER = 0.15, 0.075
"""Inches that a line and a letter of a label take."""
_DPI = 120
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


def outputs(runs: Path, sweep: SweepFolder) -> dict[str, bytes | None]:
    """The files by name; None where there is nothing to compare."""
    found = overlap(runs, sweep)
    if found is None:
        return dict.fromkeys(FILES)
    return dict(zip(FILES, (overlap_csv(found).encode(), overlap_png(found)), strict=True))


def overlap(runs: Path, sweep: SweepFolder) -> Overlap | None:
    """The overlap of the finished selections; None with fewer than two different ones.

    Selections of the same pairs are one, whatever they make of labels and weights.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    keys = dict.fromkeys(key for cell in sweep.cell_names() for key in _selections(sweep, cell).values())
    folders = {key: folder for key in keys if (folder := artefact(runs, "select", key)) is not None}
    chosen = list(folders)[:MOST]
    if len(chosen) < 2:
        return None
    columns = [pq.read_table(folders[key] / "selected.parquet", columns=["pair_id"])["pair_id"] for key in chosen]
    every = pa.chunked_array([chunk for column in columns for chunk in column.chunks]).dictionary_encode()
    chunks: list[Any] = every.unify_dictionaries().chunks
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in chunks])
    kept = np.array([len(column) for column in columns])
    member = np.zeros((len(chosen), codes.max() + 1), dtype=np.float32)
    member[np.repeat(np.arange(len(chosen)), kept), codes] = 1
    both = np.rint(member @ member.T).astype(np.int64)
    equal = (both == kept[:, None]) & (both == kept[None, :])
    first_alike = equal.argmax(axis=1)
    firsts = np.unique(first_alike)
    if len(firsts) < 2:
        return None
    alike = {key: chosen[first] for key, first in zip(chosen, first_alike, strict=True)}
    labels = _labels(sweep, alike)
    return Overlap(tuple(labels[chosen[first]] for first in firsts), kept[firsts], both[np.ix_(firsts, firsts)])


def _selections(sweep: SweepFolder, cell: str) -> dict[int | None, str]:
    """Seed -> key of the selection."""
    return {each.seed: each.stages["select"] for each in sweep.of_cell(cell) if "select" in each.stages}


def _labels(sweep: SweepFolder, alike: Mapping[str, str]) -> dict[str, str]:
    """Label of every selection, in the order of the table; ``alike``: key -> key of the first with the same pairs."""
    users: dict[str, list[str]] = {}
    for cell in sweep.cell_names():
        selections = {seed: alike[key] for seed, key in _selections(sweep, cell).items() if key in alike}
        several = len(set(selections.values())) > 1
        for seed, key in selections.items():
            name = f"{cell} seed {seed}" if several else cell
            names = users.setdefault(key, [])
            if name not in names:
                names.append(name)
    return {key: _joined(names) for key, names in users.items()}


def _joined(names: list[str]) -> str:
    return " = ".join(names) if len(names) <= 2 else f"{names[0]} and {len(names) - 1} more"


def overlap_csv(found: Overlap) -> str:
    """One line per ordered pair of selections; shares in [0, 1] with nine significant digits."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    share, jaccard = found.share_of_first(), found.jaccard()
    for row, first in enumerate(found.labels):
        for column, second in enumerate(found.labels):
            if row != column:
                counts = (found.kept[row], found.kept[column], found.both[row, column])
                shares = (f"{matrix[row, column]:.9g}" for matrix in (share, jaccard))
                writer.writerow([first, second, *map(int, counts), *shares])
    return stream.getvalue()


def overlap_png(found: Overlap) -> bytes:
    """Heat map of ``share_of_first`` in the order of the table; the same numbers give the same bytes."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(found.labels)
    cell = 0.62 if count <= _NUMBERED else 0.24
    labels = [_wrapped(label, count) for label in found.labels]
    cell = max(cell, _LINE * max(label.count("\n") + 1 for label in labels))
    longest = _CHARACTER * max(len(line) for label in labels for line in label.split("\n"))
    with mpl.rc_context({"font.family": "DejaVu Sans", "text.parse_math": False, "font.size": 8}):
        side = longest + cell * count
        figure = Figure(figsize=(2.2 + side, 0.8 + side), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        _draw(figure, found, labels)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _wrapped(label: str, count: int) -> str:
    most = _LABEL_CHARACTERS if count <= _NUMBERED else 2 * _LABEL_CHARACTERS
    return "\n".join(wrap(label, lambda line: len(line) <= most))


def _draw(figure: Figure, found: Overlap, labels: Sequence[str]) -> None:
    count, share = len(found.labels), found.share_of_first()
    axes: Any = figure.subplots()
    image = axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    rows = [f"{label} ({kept:,})" for label, kept in zip(labels, found.kept, strict=True)]
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
