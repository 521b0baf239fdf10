"""The winner's score alone: Q = ψ_w."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.quality.metrics import QualityMetric

if TYPE_CHECKING:
    from qsd.quality.metrics import Scores


def winner_only(winner: Scores, _loser: Scores, _uniform: Scores) -> Scores:
    """Q = ψ_w, in the unit of the score. Shows whether the loser's score adds anything to a metric."""
    return winner.copy()


METRIC = QualityMetric(winner_only)
