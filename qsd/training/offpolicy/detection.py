"""``detector.parquet``: what the detectors of flipped labels say of the pairs of a training, and how well they do.

Each detector gives a number that is larger for a suspect pair. They are compared with the injected label noise by the
area under the ROC curve: 1/2 is chance. ``detector.py`` makes the numbers; this module only reads and writes them, so
that the analysis need not import what trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qsd.files import read_table, texts, write_table

FILE = "detector.parquet"
"""What a training with injected label flips, or one that keeps annotators, writes of every pair that it has judged."""
DETECTORS = (
    "metric",
    "confidence",
    "minus_d",
    "margin",
    "base_margin",
    "minus_score_gap",
    "contradicts_scorer",
    "contradicts_judge",
)
_NUMBERS = ("metric", "d", "score_gap", "confidence", "margin", "base_margin", "contradicts_judge")
_Z = 1.959964


@dataclass(frozen=True)
class Detection:
    """The detectors' numbers for N pairs, [N] each; NaN where a detector has none.

    Attributes:
        pair_ids: of the pairs.
        flipped: whether the label was flipped on purpose.
        metric: u of ``qsd.losses._annotators``, in [0, 1].
        d: r - m, how much more the model favours the labelled winner than the reference does.
        score_gap: ψ_w - ψ_l under the label that was trained on.
        confidence: how little the annotators believe the label, in [0, 1]; u is this times their stability.
        margin: m = e_w - e_l of the trained model, which needs no reference; positive: the labelled loser is denoised
            better.
        base_margin: r, the same of the base model, which was not trained on any label.
        contradicts_judge: 1 where the judge of ``data.judge_agrees`` contradicts the label that was trained on, 0 where
            it agrees. Of the judge that made the labels it is the ceiling: what its own noise leaves to be detected.
    """

    pair_ids: list[str]
    flipped: npt.NDArray[np.bool_]
    metric: npt.NDArray[np.float64]
    d: npt.NDArray[np.float64]
    score_gap: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.float64]
    margin: npt.NDArray[np.float64]
    base_margin: npt.NDArray[np.float64]
    contradicts_judge: npt.NDArray[np.float64]

    def suspicions(self) -> dict[str, npt.NDArray[np.float64]]:
        """The number of each of ``DETECTORS``, larger for a suspect pair.

        ``contradicts_scorer`` is 1 where the reward model scores the labelled loser higher, and 1/2 for equal scores.
        """
        values = (
            self.metric,
            self.confidence,
            -self.d,
            self.margin,
            self.base_margin,
            -self.score_gap,
            (1 - np.sign(self.score_gap)) / 2,
            self.contradicts_judge,
        )
        return dict(zip(DETECTORS, values, strict=True))

    def areas(self) -> dict[str, float | None]:
        """Area under the ROC curve of each of ``DETECTORS``; None where it is not defined."""
        return {name: auroc(values, self.flipped) for name, values in self.suspicions().items()}

    def intervals(self) -> dict[str, tuple[float, float] | None]:
        """95 % interval of each area, for other pairs judged by the same models; None where it is not defined."""
        return {name: interval(values, self.flipped) for name, values in self.suspicions().items()}

    def summary(self) -> dict[str, Any]:
        """Counts, areas and their intervals."""
        return {
            "pairs": len(self.pair_ids),
            "flipped": int(self.flipped.sum()),
            "auroc": self.areas(),
            "auroc_95": {name: None if ends is None else list(ends) for name, ends in self.intervals().items()},
        }

    def write(self, folder: Path) -> None:
        """``detector.parquet``: pair_id, flipped and the numbers; null where there is no number."""
        numbers = {name: pa.array(getattr(self, name), from_pandas=True) for name in _NUMBERS}
        columns = {"pair_id": pa.array(self.pair_ids), "flipped": pa.array(self.flipped), **numbers}
        write_table(folder / FILE, pa.table(columns))

    @classmethod
    def read(cls, folder: Path) -> Detection:
        """What ``write`` has written; NaN for numbers that a file of an earlier version lacks."""
        table = read_table(folder / FILE)
        missing = np.full(table.num_rows, np.nan)
        numbers = {
            name: table[name].to_numpy().astype(np.float64) if name in table.column_names else missing
            for name in _NUMBERS
        }
        return cls(pair_ids=texts(table["pair_id"]), flipped=table["flipped"].to_numpy(), **numbers)

    @classmethod
    def pooled(cls, parts: Sequence[Detection]) -> Detection:
        """Several detections as one, such as those of the folds of a cell."""
        columns = [field.name for field in fields(cls) if field.name != "pair_ids"]
        return cls(
            pair_ids=[name for part in parts for name in part.pair_ids],
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns},
        )


def auroc(suspicion: npt.NDArray[np.float64], flipped: npt.NDArray[np.bool_]) -> float | None:
    """The chance that a flipped pair has a higher number than one that is not, ties counting half.

    Pairs whose number is NaN are left out; None when that leaves no flipped pair, or only flipped ones.
    """
    known = np.isfinite(suspicion)
    values, positive = suspicion[known], flipped[known]
    hits, misses = int(positive.sum()), int((~positive).sum())
    if hits == 0 or misses == 0:
        return None
    ranks = _ranks(values)[positive].sum()
    return float((ranks - hits * (hits + 1) / 2) / (hits * misses))


def interval(suspicion: npt.NDArray[np.float64], flipped: npt.NDArray[np.bool_]) -> tuple[float, float] | None:
    """95 % interval of ``auroc`` for other pairs, by DeLong, DeLong and Clarke-Pearson (1988), within [0, 1].

    The variance is that of the share of misses below a hit over the hits, plus that of the share of hits above a miss
    over the misses, each over its number. None where the area is not defined, or one of the two has a single pair.
    """
    known = np.isfinite(suspicion)
    values, positive = suspicion[known], flipped[known]
    hits, misses = int(positive.sum()), int((~positive).sum())
    if hits < 2 or misses < 2:
        return None
    ranks = _ranks(values)
    below = (ranks[positive] - _ranks(values[positive])) / misses
    above = 1 - (ranks[~positive] - _ranks(values[~positive])) / hits
    half = _Z * float(np.sqrt(below.var(ddof=1) / hits + above.var(ddof=1) / misses))
    area = float(below.mean())
    return max(0.0, area - half), min(1.0, area + half)


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks from 1, ascending; equal values have the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    ranks: npt.NDArray[np.float64] = mean_rank[place]
    return ranks
