"""``detector.parquet``: what three detectors of flipped labels say of the pairs of a training, and how well they do.

Each detector gives a number that is larger for a suspect pair. They are compared with the injected label noise by the
area under the ROC curve: 1/2 is chance. ``detector.py`` makes the numbers; this module only reads and writes them, so
that the analysis need not import what trains.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qsd.files import read_table, texts, write_table

FILE = "detector.parquet"
"""What a training with injected label flips, or one that keeps annotators, writes of every pair that it has judged."""
DETECTORS = ("metric", "minus_d", "minus_score_gap")
_NUMBERS = ("metric", "d", "score_gap")


@dataclass(frozen=True)
class Detection:
    """The detectors' numbers for N pairs, [N] each; NaN where a detector has none.

    Attributes:
        pair_ids: of the pairs.
        flipped: whether the label was flipped on purpose.
        metric: u of ``qsd.losses._annotators``, in [0, 1].
        d: how much more the model favours the labelled winner than the reference does.
        score_gap: ψ_w - ψ_l under the label that was trained on.
    """

    pair_ids: list[str]
    flipped: npt.NDArray[np.bool_]
    metric: npt.NDArray[np.float64]
    d: npt.NDArray[np.float64]
    score_gap: npt.NDArray[np.float64]

    def areas(self) -> dict[str, float | None]:
        """Area under the ROC curve of each of ``DETECTORS``; None where it is not defined."""
        values = zip(DETECTORS, (self.metric, -self.d, -self.score_gap), strict=True)
        return {name: auroc(value, self.flipped) for name, value in values}

    def summary(self) -> dict[str, Any]:
        """Counts and areas."""
        return {"pairs": len(self.pair_ids), "flipped": int(self.flipped.sum()), "auroc": self.areas()}

    def write(self, folder: Path) -> None:
        """``detector.parquet``: pair_id, flipped, metric, d, score_gap; null where there is no number."""
        numbers = {name: pa.array(getattr(self, name), from_pandas=True) for name in _NUMBERS}
        columns = {"pair_id": pa.array(self.pair_ids), "flipped": pa.array(self.flipped), **numbers}
        write_table(folder / FILE, pa.table(columns))

    @classmethod
    def read(cls, folder: Path) -> Detection:
        """What ``write`` has written."""
        table = read_table(folder / FILE)
        numbers = (table[name].to_numpy().astype(np.float64) for name in _NUMBERS)
        return cls(texts(table["pair_id"]), table["flipped"].to_numpy(), *numbers)


def auroc(suspicion: npt.NDArray[np.float64], flipped: npt.NDArray[np.bool_]) -> float | None:
    """The chance that a flipped pair has a higher number than one that is not, ties counting half.

    Pairs whose number is NaN are left out; None when that leaves no flipped pair, or only flipped ones.
    """
    known = np.isfinite(suspicion)
    values, positive = suspicion[known], flipped[known]
    hits, misses = int(positive.sum()), int((~positive).sum())
    if hits == 0 or misses == 0:
        return None
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    ranks = mean_rank[place][positive].sum()
    return float((ranks - hits * (hits + 1) / 2) / (hits * misses))
