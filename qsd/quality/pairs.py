"""Q of all pairs of a data set: normalise ψ over its distinct (image, caption), then apply the metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.errors import UserError
from qsd.quality.metrics import REGISTRY as METRICS
from qsd.quality.normalizations import REGISTRY as NORMALIZATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from qsd.data.distinct import Distinct


@dataclass(frozen=True)
class PairScores:
    """Scores of N pairs.

    Attributes:
        winner: ψ_w [N], float64.
        loser: ψ_l [N], float64.
        pair_ids: for messages.
        distinct: indices of scores of the same image and caption; not needed by a normalisation that is not relative.
    """

    winner: NDArray[np.float64]
    loser: NDArray[np.float64]
    pair_ids: Sequence[str]
    distinct: Distinct | None = None


def normalized(scores: PairScores, normalization: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(ψ_w, ψ_l) [N] each after normalisation; an image that occurs in many pairs counts once per caption."""
    import numpy as np

    member, distinct = NORMALIZATIONS.get(normalization), scores.distinct
    if not member.relative:
        nobody = np.zeros(len(scores.winner), dtype=np.int64)
        return member.function(scores.winner, nobody), member.function(scores.loser, nobody)
    assert distinct is not None, normalization
    once = np.concatenate([scores.winner, scores.loser])[distinct.one]
    values = member.function(once, distinct.caption[distinct.one])[distinct.item]
    return values[: len(scores.winner)], values[len(scores.winner) :]


def quality(
    scores: PairScores, metric: str, normalization: str, uniform: NDArray[np.float64], scorer: str = "the reward model"
) -> NDArray[np.float64]:
    """Q [N] under a metric that uses scores.

    Args:
        scores: scores of the pairs.
        metric: name of the metric.
        normalization: name of the normalisation.
        uniform: numbers [N] in [0, 1), a function of (pair id, seed).
        scorer: name of the scorer, for messages.

    Raises:
        UserError: the metric is not defined on all scores.
    """
    member = METRICS.get(metric)
    winner, loser = normalized(scores, normalization)
    _check_domain(scores, winner, loser, metric, normalization, scorer)
    return member.function(winner, loser, uniform)


def _check_domain(
    scores: PairScores,
    winner: NDArray[np.float64],
    loser: NDArray[np.float64],
    metric: str,
    normalization: str,
    scorer: str,
) -> None:
    domain = METRICS.get(metric).domain
    outside = domain.outside(winner) | domain.outside(loser)
    if not outside.any():
        return
    others = [name for name in NORMALIZATIONS.names() if name != normalization]
    fitting = [name for name in others if NORMALIZATIONS.get(name).image.within(domain)]
    low, high = min(winner.min(), loser.min()), max(winner.max(), loser.max())
    raise UserError(
        f"quality.metric '{metric}' needs scores in {domain.name}, but with quality.normalization '{normalization}' "
        f"{scorer} gives {low:.4g} to {high:.4g} ({outside.sum()} of {len(winner)} pairs have one outside, such as "
        f"{scores.pair_ids[int(outside.argmax())]}); set quality.normalization to {' or '.join(fitting)}"
    )
