"""The product of two ranks: of the winner among winners, and of the loser among losers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.quality.metrics import QualityMetric
from qsd.quality.ranks import share_below

if TYPE_CHECKING:
    from qsd.quality.metrics import Scores


def rank_product(winner: Scores, loser: Scores, _uniform: Scores) -> Scores:
    """Q = r(ψ_w) · (1 - r(ψ_l)), in (0, 1); r is the share below among the N winners, or the N losers.

    r = (average rank - 1/2) / N. Units, spacing and any increasing change of the scores do not matter, and no score is
    refused. ``product`` under ``percentile_rank`` ranks all images together instead: where winners outscore losers,
    ``product`` gives nearly all winners a high value, while this metric still distinguishes them.
    """
    return share_below(winner) * (1.0 - share_below(loser))


METRIC = QualityMetric(rank_product)
