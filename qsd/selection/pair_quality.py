"""Q of the pairs of an experiment, by its metric and normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qsd.data.distinct import distinct
from qsd.draws import uniforms
from qsd.files import texts
from qsd.quality.metrics import REGISTRY as METRICS
from qsd.quality.normalizations import REGISTRY as NORMALIZATIONS
from qsd.quality.pairs import PairScores, quality

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from qsd.config.schema import ExperimentConfig


def pair_quality(config: ExperimentConfig, pairs: pa.Table) -> NDArray[np.float64]:
    """Q [N] under the chosen metric and normalisation.

    Args:
        config: the experiment.
        pairs: as ``qsd.selection.pairs.read_pairs`` gives them; with scores if the metric uses them.

    Raises:
        UserError: the metric refuses the scores.
    """
    metric = METRICS.get(config.quality.metric)
    pair_ids = texts(pairs["pair_id"])
    uniform = uniform_of_pairs(pair_ids, config.seed, "quality", metric.stochastic)
    if not metric.uses_scores:
        # No scores are read for such a metric: it must not depend on them.
        unknown = np.full(len(pair_ids), np.nan)
        return metric.function(unknown, unknown, uniform)
    winner, loser = (pairs[name].to_numpy().astype(np.float64) for name in ("winner_score", "loser_score"))
    relative = NORMALIZATIONS.get(config.quality.normalization).relative
    scorer = pairs["scorer"][0].as_py() if pair_ids else config.reward.model
    scores = PairScores(winner, loser, pair_ids, distinct(pairs) if relative else None)
    return quality(scores, config.quality.metric, config.quality.normalization, uniform, scorer)


def uniform_of_pairs(pair_ids: list[str], seed: int, purpose: str, stochastic: bool) -> NDArray[np.float64]:
    """Numbers in [0, 1) of the pairs; NaN for members that do not declare that they use them."""
    return uniforms(pair_ids, seed, purpose) if stochastic else np.full(len(pair_ids), np.nan)
