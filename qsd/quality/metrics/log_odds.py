"""The difference of log-odds: Q = logit ψ_w - logit ψ_l."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.quality.domains import OPEN_UNIT_INTERVAL
from qsd.quality.metrics import QualityMetric

if TYPE_CHECKING:
    from qsd.quality.metrics import Scores


def log_odds(winner: Scores, loser: Scores, _uniform: Scores) -> Scores:
    """Q = log(ψ_w / (1 - ψ_w)) - log(ψ_l / (1 - ψ_l)), any real number, for scores in (0, 1); 0 where both are equal.

    ``product`` is ψ_w · (1 - ψ_l); this is the logarithm of its odds against the swapped pair,
    ψ_w · (1 - ψ_l) / (ψ_l · (1 - ψ_w)), so it treats winner and loser symmetrically and stretches both ends.
    Exactly 0 or 1 has no log-odds and is refused.
    """
    import numpy as np

    result: Scores = (np.log(winner) - np.log1p(-winner)) - (np.log(loser) - np.log1p(-loser))
    return result


METRIC = QualityMetric(log_odds, domain=OPEN_UNIT_INTERVAL)
