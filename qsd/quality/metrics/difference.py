"""The score gap: Q = ψ_w - ψ_l."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.quality.metrics import QualityMetric

if TYPE_CHECKING:
    from qsd.quality.metrics import Scores


def difference(winner: Scores, loser: Scores, _uniform: Scores) -> Scores:
    """Q = ψ_w - ψ_l, in the unit of the score; negative when the scorer contradicts the annotator.

    The simplest alternative to ``product``: it shows whether the form matters, or any score gap is enough.
    """
    return winner - loser


METRIC = QualityMetric(difference)
