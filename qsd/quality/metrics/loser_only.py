"""The loser's score alone, negated: Q = -ψ_l."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.quality.metrics import QualityMetric

if TYPE_CHECKING:
    from qsd.quality.metrics import Scores


def loser_only(_winner: Scores, loser: Scores, _uniform: Scores) -> Scores:
    """Q = -ψ_l, in the unit of the score: the same order as the second factor of ``product``, 1 - ψ_l.

    Shows whether the winner's score adds anything to a metric.
    """
    return -loser


METRIC = QualityMetric(loser_only)
