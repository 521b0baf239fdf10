"""How well planted flips are found in a sweep: ``detector.csv``, ``minority.png`` and ``intervals.png``.

Read from the ``detector.parquet`` of finished trainings (``qsd.training.offpolicy.detection``); nothing is written for
a sweep without any. The pictures are those of the Adaptive-DPO paper (arXiv 2503.16921), its Fig. 2 and Fig. 3.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from analysis.sweep import artefact
from qsd.adaptive import DETECTOR_FILE
from qsd.training.offpolicy.detection import DETECTORS, Detection

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.sweep import SweepFolder

FILES = ("detector.csv", "minority.png", "intervals.png")
SUSPECTED = (0.1, 0.3, 0.5)
"""A pair is suspected from this metric on; the paper names no threshold."""
_INTERVALS = 10
_FEWEST = 10
"""An interval that is worth fewer pairs is not drawn."""
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
}


@dataclass(frozen=True)
class Judged:
    """What one finished training says of its pairs; ``planted`` is the percent of flips that its cell asks for."""

    cell: str
    seed: int | None
    planted: float
    found: Detection


def read(runs: Path, sweep: SweepFolder) -> list[Judged]:
    """Every finished training of the sweep that has judged its pairs, cells in the order of the tables."""
    judged = []
    for name in sweep.cell_names():
        for replicate in sweep.of_cell(name):
            folder = artefact(runs, "train", replicate.stages.get("train"))
            if folder is not None and (folder / DETECTOR_FILE).is_file():
                found = Detection.read(folder)
                share = round(100 * float(found.flipped.mean())) if len(found.flipped) else 0
                planted = float(replicate.axes.get("data.flip_fraction", share))
                judged.append(Judged(name, replicate.seed, planted, found))
    return judged


def outputs(runs: Path, sweep: SweepFolder) -> dict[str, bytes | None]:
    """``FILES`` by name; None for one that has nothing to show."""
    judged = read(runs, sweep)
    contents = to_csv(judged).encode() if judged else None, minority_png(judged), intervals_png(judged)
    return dict(zip(FILES, contents, strict=True))


def to_csv(judged: list[Judged]) -> str:
    """One line per training: counts, and the area under the ROC curve of each detector, empty where there is none."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["cell", "seed", "pairs", "flipped", *(f"auroc_{name}" for name in DETECTORS)])
    for item in judged:
        areas = (item.found.areas()[name] for name in DETECTORS)
        counts = (len(item.found.pair_ids), int(item.found.flipped.sum()))
        writer.writerow([item.cell, item.seed, *counts, *("" if area is None else f"{area:.4f}" for area in areas)])
    return stream.getvalue()


def minority_png(judged: list[Judged]) -> bytes | None:
    """Share of suspected pairs against the share of flipped ones, a line per threshold; None without a metric.

    None also where all trainings have the same share of flips: there is no line to draw. Trainings of the same share,
    of whatever cell and seed, are pooled.
    """
    shares = _by_share(judged)
    if len(shares) < 2:
        return None

    def draw(axes: Any) -> None:
        at = sorted(shares)
        for colour, threshold in zip(_COLOURS, SUSPECTED, strict=False):
            suspected = [100 * float((shares[share].metric >= threshold).mean()) for share in at]
            axes.plot(at, suspected, "o-", color=colour, label=f"metric ≥ {threshold:g}")
        axes.plot(at, at, "--", color="#888888", linewidth=1, label="as many as are flipped")
        axes.set_xticks(at)
        axes.set_xlabel("flipped labels, % of the pairs")
        axes.set_ylabel("suspected pairs, %")
        axes.set_ylim(bottom=0)
        axes.set_title("Suspected pairs against flipped labels")

    return _png(draw)


def intervals_png(judged: list[Judged]) -> bytes | None:
    """Share of flipped pairs by interval of the metric, a line per share of flips; None without metric or flips.

    Bars are 95 % intervals (Wilson's) of as many pairs as those of an interval are worth (``_effective``).
    """
    shares = {share: pooled for share, pooled in _by_share(judged).items() if pooled.flipped.any()}
    if not shares:
        return None
    edges = np.linspace(0, 1, _INTERVALS + 1)

    def draw(axes: Any) -> None:
        for number, (colour, share) in enumerate(zip(_COLOURS, sorted(shares), strict=False)):
            pooled = shares[share]
            place = np.clip(np.digitize(pooled.metric, edges) - 1, 0, _INTERVALS - 1)
            worth = _effective(place, pooled.pair)
            drawn = np.flatnonzero(worth >= _FEWEST)
            counts = np.bincount(place, minlength=_INTERVALS)[drawn]
            hits = np.bincount(place[pooled.flipped], minlength=_INTERVALS)[drawn] / counts
            low, high = _wilson(hits, worth[drawn])
            at = (edges[drawn] + edges[drawn + 1]) / 2 + 0.008 * (number - (len(shares) - 1) / 2)
            axes.plot(at, 100 * hits, "o-", color=colour, markersize=4, label=f"{share:g} % flipped")
            axes.vlines(at, 100 * low, 100 * high, color=colour, linewidth=1, alpha=0.6)
            axes.axhline(100 * float(pooled.flipped.mean()), color=colour, linestyle="--", linewidth=0.8)
        axes.set_xlim(0, 1)
        axes.set_xticks(edges)
        axes.set_ylim(0, 100)
        axes.set_xlabel(f"minority metric, in intervals of 0.1 with at least {_FEWEST} pairs")
        axes.set_ylabel("flipped pairs in the interval, %")
        axes.set_title("Flipped pairs by interval of the metric (dashed: among all)")

    return _png(draw)


def _effective(place: npt.NDArray[np.int64], pair: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """How many different pairs the rows of each interval are worth: (Σ n_i)² / Σ n_i², n_i rows of pair i (Kish, 1965).

    Trainings with other seeds judge the same pairs with the same labels: they tell little more than one of them does.
    """
    rows, counts = np.unique(np.stack([place, pair]), axis=1, return_counts=True)
    squares = np.bincount(rows[0], counts.astype(np.float64) ** 2, minlength=_INTERVALS)
    return np.bincount(place, minlength=_INTERVALS) ** 2 / np.maximum(squares, 1)


def _wilson(share: npt.NDArray[np.float64], count: npt.NDArray[np.float64]) -> tuple[Any, Any]:
    """Wilson's 95 % interval of each share, found in so many."""
    z = 1.959964
    middle = (share * count + z**2 / 2) / (count + z**2)
    half = z / (count + z**2) * np.sqrt(share * (1 - share) * count + z**2 / 4)
    return middle - half, middle + half


@dataclass(frozen=True)
class _Pooled:
    """Rows of several trainings: the metric, whether the label is flipped, and the number of the pair."""

    metric: npt.NDArray[np.float64]
    flipped: npt.NDArray[np.bool_]
    pair: npt.NDArray[np.int64]


def _by_share(judged: list[Judged]) -> dict[float, _Pooled]:
    """Percent of flips -> all pairs that have a metric."""
    parts: dict[float, list[Detection]] = {}
    for item in judged:
        if np.isfinite(item.found.metric).any():
            parts.setdefault(item.planted, []).append(item.found)
    pooled = {}
    for share, found in parts.items():
        metric = np.concatenate([part.metric for part in found])
        known = np.isfinite(metric)
        _, pair = np.unique(np.concatenate([part.pair_ids for part in found]), return_inverse=True)
        flipped = np.concatenate([part.flipped for part in found])
        pooled[share] = _Pooled(metric[known], flipped[known], pair[known])
    return pooled


def _png(draw: Any) -> bytes:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.2, 4.2), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        draw(axes)
        axes.legend(frameon=False, fontsize=8)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
