"""How well injected label noise is detected: ``detector.csv`` and the figures ``minority`` and ``intervals``.

The figure ``areas`` is in a file of its own.

Read from the ``detector.parquet`` of finished trainings (``qsd.training.offpolicy.detection``); nothing is written for
a sweep without any. The figures are those of the Adaptive-DPO paper (arXiv 2503.16921), its Fig. 2 and Fig. 3.
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from analysis.data.sweep import artefact
from analysis.figures.drawing import Drawing, new_figure, styled
from qsd.training.offpolicy.detection import DETECTORS, Detection
from qsd.training.offpolicy.detection import FILE as DETECTOR_FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from analysis.data.sweep import Replicate, SweepFolder

TABLE = "detector.csv"
MINORITY, INTERVALS = "minority", "intervals"
_MINORITY_CAPTION = "Share of pairs that the minority metric suspects, by the share whose labels were flipped."
_INTERVALS_CAPTION = "Share of flipped pairs by interval of the minority metric; dashed: among all pairs."
SUSPECTED = (0.1, 0.3, 0.5)
"""A pair is suspected from this metric on; the paper names no threshold."""
_INTERVAL_COUNT = 10
_FEWEST_PAIRS = 10
"""An interval that is worth fewer pairs is not drawn."""
_FOLD = "training.held_out_fold"
_FOLD_OF_NAME = re.compile(r"(?:^|,)(?:training\.)?held_out_fold=[^,]*")
_ONLY_FOLDS = "all folds"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


@dataclass(frozen=True)
class Detected:
    """What the finished trainings of a cell and seed report about their pairs.

    Attributes:
        cell: its name, without the fold that a training leaves out.
        seed: of the trainings.
        flipped: percent of flips that the cell asks for.
        detection: of one training; of all finished folds of the cell, where it has such an axis.
        folds: how many these are; None without the axis.
    """

    cell: str
    seed: int | None
    flipped: float
    detection: Detection
    folds: int | None = None


def read_detections(runs: Path, sweep: SweepFolder) -> list[Detected]:
    """The finished trainings of the sweep with a detector's file, cells in the order of the tables.

    Trainings that differ only in the fold that they left out are pooled: each pair is judged once, by a model that was
    not trained on it.
    """
    groups: dict[tuple[str, str, int | None], list[tuple[Replicate, Detection]]] = {}
    for name in sweep.cell_names():
        for replicate in sweep.of_cell(name):
            folder = artefact(runs, "train", replicate.stages.get("train"))
            if folder is not None and (folder / DETECTOR_FILE).is_file():
                others = {axis: value for axis, value in replicate.axes.items() if axis != _FOLD}
                cell = _FOLD_OF_NAME.sub("", name).strip(",") if _FOLD in replicate.axes else name
                group = cell or _ONLY_FOLDS, json.dumps(others, sort_keys=True, default=str), replicate.seed
                groups.setdefault(group, []).append((replicate, Detection.read(folder)))
    return [_pooled(cell, seed, parts) for (cell, _, seed), parts in groups.items()]


def _pooled(cell: str, seed: int | None, parts: list[tuple[Replicate, Detection]]) -> Detected:
    detection = Detection.pooled([part for _, part in parts])
    axes = parts[0][0].axes
    share = round(100 * float(detection.flipped.mean())) if len(detection.flipped) else 0
    flipped = float(axes.get("data.flip_fraction", share))
    return Detected(cell, seed, flipped, detection, len(parts) if _FOLD in axes else None)


def detector_csv(detected: list[Detected]) -> str:
    """One line per training, or per cell and seed whose folds are pooled.

    Counts, then for each detector the area under the ROC curve and its 95 % interval; empty where there is none.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = [f"auroc_{name}{end}" for name in DETECTORS for end in ("", "_low", "_high")]
    writer.writerow(["cell", "seed", "folds", "pairs", "flipped", *columns])
    for item in detected:
        areas, intervals = item.detection.areas(), item.detection.intervals()
        numbers = [each for name in DETECTORS for each in (areas[name], *(intervals[name] or (None, None)))]
        counts = (len(item.detection.pair_ids), int(item.detection.flipped.sum()))
        shown = ("" if number is None else f"{number:.4f}" for number in numbers)
        writer.writerow([item.cell, item.seed, "" if item.folds is None else item.folds, *counts, *shown])
    return stream.getvalue()


def minority(detected: list[Detected]) -> Drawing | None:
    """Share of suspected pairs against the share of flipped ones, a line per threshold; None without a metric.

    None also where all trainings have the same share of flips: there is no line to draw. Trainings of the same share,
    of whatever cell and seed, are pooled.
    """
    shares = _by_share(detected)
    if len(shares) < 2:
        return None

    def draw(axes: Any) -> None:
        percents = sorted(shares)
        for colour, threshold in zip(_COLOURS, SUSPECTED, strict=False):
            suspected = [100 * float((shares[share].metric >= threshold).mean()) for share in percents]
            axes.plot(percents, suspected, "o-", color=colour, label=f"metric ≥ {threshold:g}")
        axes.plot(percents, percents, "--", color="#888888", linewidth=1, label="as many as are flipped")
        axes.set_xticks(percents)
        axes.set_xlabel("flipped labels, % of the pairs")
        axes.set_ylabel("suspected pairs, %")
        axes.set_ylim(bottom=0)
        axes.set_title("Suspected pairs against flipped labels")

    return _figure(MINORITY, _MINORITY_CAPTION, draw)


def intervals(detected: list[Detected]) -> Drawing | None:
    """Share of flipped pairs by interval of the metric, a line per share of flips; None without metric or flips.

    Bars are 95 % intervals (Wilson's) of as many pairs as those of an interval are worth (``_effective``).
    """
    shares = {share: pooled for share, pooled in _by_share(detected).items() if pooled.flipped.any()}
    if not shares:
        return None
    edges = np.linspace(0, 1, _INTERVAL_COUNT + 1)

    def draw(axes: Any) -> None:
        for number, (colour, share) in enumerate(zip(_COLOURS, sorted(shares), strict=False)):
            pooled = shares[share]
            place = np.clip(np.digitize(pooled.metric, edges) - 1, 0, _INTERVAL_COUNT - 1)
            worth = _effective(place, pooled.pair)
            drawn = np.flatnonzero(worth >= _FEWEST_PAIRS)
            counts = np.bincount(place, minlength=_INTERVAL_COUNT)[drawn]
            hits = np.bincount(place[pooled.flipped], minlength=_INTERVAL_COUNT)[drawn] / counts
            low, high = _wilson(hits, worth[drawn])
            at = (edges[drawn] + edges[drawn + 1]) / 2 + 0.008 * (number - (len(shares) - 1) / 2)
            axes.plot(at, 100 * hits, "o-", color=colour, markersize=4, label=f"{share:g} % flipped")
            axes.vlines(at, 100 * low, 100 * high, color=colour, linewidth=1, alpha=0.6)
            axes.axhline(100 * float(pooled.flipped.mean()), color=colour, linestyle="--", linewidth=0.8)
        axes.set_xlim(0, 1)
        axes.set_xticks(edges)
        axes.set_ylim(0, 100)
        axes.set_xlabel(f"minority metric, in intervals of 0.1 with at least {_FEWEST_PAIRS} pairs")
        axes.set_ylabel("flipped pairs in the interval, %")
        axes.set_title("Flipped pairs by interval of the metric (dashed: among all)")

    return _figure(INTERVALS, _INTERVALS_CAPTION, draw)


def _effective(place: npt.NDArray[np.int64], pair: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """How many different pairs the rows of each interval are worth: (Σ n_i)² / Σ n_i², n_i rows of pair i (Kish, 1965).

    Trainings with other seeds judge the same pairs with the same labels: they add little to what one of them says.
    """
    rows, counts = np.unique(np.stack([place, pair]), axis=1, return_counts=True)
    squares = np.bincount(rows[0], counts.astype(np.float64) ** 2, minlength=_INTERVAL_COUNT)
    return np.bincount(place, minlength=_INTERVAL_COUNT) ** 2 / np.maximum(squares, 1)


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


def _by_share(detected: list[Detected]) -> dict[float, _Pooled]:
    """Percent of flips -> all pairs that have a metric."""
    parts: dict[float, list[Detection]] = {}
    for item in detected:
        if np.isfinite(item.detection.metric).any():
            parts.setdefault(item.flipped, []).append(item.detection)
    pooled = {}
    for share, detections in parts.items():
        metric = np.concatenate([part.metric for part in detections])
        known = np.isfinite(metric)
        _, pair = np.unique(np.concatenate([part.pair_ids for part in detections]), return_inverse=True)
        flipped = np.concatenate([part.flipped for part in detections])
        pooled[share] = _Pooled(metric[known], flipped[known], pair[known])
    return pooled


def _figure(name: str, caption: str, draw: Callable[[Any], None]) -> Drawing:
    with styled({}):
        figure = new_figure(6.2, 4.2)
        axes = figure.subplots()
        draw(axes)
        axes.legend(frameon=False, fontsize=8)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    return Drawing(name, figure, caption)
