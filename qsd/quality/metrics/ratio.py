"""The ratio of the winner's score to the loser's: Q = ψ_w / ψ_l."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.quality.domains import POSITIVE
from qsd.quality.metrics import QualityMetric

if TYPE_CHECKING:
    from qsd.quality.metrics import Scores


def ratio(winner: Scores, loser: Scores, _uniform: Scores) -> Scores:
    """Q = ψ_w / ψ_l, in (0, ∞) for scores above 0; 1 where both are equal.

    A small loser counts far more than a great winner: on percentile ranks the worst loser of M images has ψ_l = 1/(2M).
    Defined for scores above 0 only, so no constant has to be added to the denominator.
    """
    return winner / loser


METRIC = QualityMetric(ratio, domain=POSITIVE)
