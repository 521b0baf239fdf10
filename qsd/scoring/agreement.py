"""How well scores of a lower precision order images in the way that fp32 does."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from qsd.rewards.opening import open_reward
from qsd.rewards.requests import Requests
from qsd.scoring.compute import ScoringJob
from qsd.scoring.precision import computing
from qsd.scoring.prefetch import prefetch
from qsd.scoring.scorer_runs import ScorerRun

SAMPLE = 256
"""Requests that are also scored in fp32."""


def sample(requests: Requests, size: int = SAMPLE) -> NDArray[np.int64]:
    """Up to ``size`` places among the requests, ascending, chosen by the hash of their number."""
    hashes = [hashlib.sha256(str(place).encode()).digest() for place in range(len(requests))]
    chosen = sorted(range(len(requests)), key=lambda place: hashes[place])[:size]
    return np.sort(np.array(chosen, dtype=np.int64))


def rank_correlation(work: ScoringJob, column: ScorerRun, scores: NDArray[np.float32]) -> tuple[float, int]:
    """Spearman's correlation of ``scores`` with fp32, over a sample of the requests.

    Args:
        work: where the images are.
        column: the column of these scores.
        scores: [M], of all requests.

    Returns:
        the correlation (not a number where fewer than two differ), and the size of the sample.
    """
    places = sample(work.requests)
    # A score that is no number has no rank; how many there are is counted elsewhere.
    places = places[np.isfinite(scores[places])]
    chosen = replace(
        work.requests,
        images=work.requests.images[places],
        captions=work.requests.captions.take(places),
        item=work.requests.item[places],
    )
    scorer = open_reward(column.name, column.weights, work.device)
    size = column.batch_size
    batches = [(first, min(first + size, len(places))) for first in range(0, len(places), size)]
    exact = []
    for loaded in prefetch(work.images, chosen, batches, [column.preprocess], work.workers):
        pixels = loaded.on(work.device, column.preprocess)
        with computing("fp32", work.device):
            exact.append(scorer.score(pixels, chosen.captions_of(loaded.first, loaded.last)))
    compared = np.concatenate([np.zeros(0, np.float32), *exact])
    # A rank correlation with a constant is not defined.
    if len(np.unique(compared)) < 2 or len(np.unique(scores[places])) < 2:
        return float("nan"), len(places)
    return float(spearmanr(compared, scores[places]).statistic), len(places)
