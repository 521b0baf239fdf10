"""A random Q: a control that does not depend on the images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.quality.metrics import QualityMetric

if TYPE_CHECKING:
    from qsd.quality.metrics import Scores


def random(_winner: Scores, _loser: Scores, uniform: Scores) -> Scores:
    """Q uniform in [0, 1), a pure function of (pair id, seed)."""
    return uniform.copy()


METRIC = QualityMetric(random, uses_scores=False, stochastic=True)
