"""Percentile bootstrap over prompts, and over training seeds and prompts, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 10_000
CONFIDENCE = 0.95
_CELLS_PER_CHUNK = 2_000_000


def resampled_means(values: Floats, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Means of prompts drawn with replacement.

    Every column sees the same draws, so equal columns give equal means and differences of columns stay paired. The
    draws are those of ``scipy.stats.bootstrap`` with ``rng=np.random.default_rng(seed)``.

    Args:
        values: [prompts, quantities].
        resamples: number of draws.
        seed: of the draws.

    Returns:
        [resamples, quantities].
    """
    prompts = len(values)
    chunks = _counts(prompts, resamples, seed)
    return np.concatenate([counts @ values / prompts for counts in chunks])


def resampled_seed_means(by_seed: Floats, seed: int = 0) -> Floats:
    """Second level: means over training seeds drawn with replacement, independently of the prompts.

    Seeds and prompts are crossed (every seed answers every prompt), so each resample draws both and takes the mean
    over the drawn rows and columns (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2)).

    Args:
        by_seed: [resamples, seeds], per-seed means of prompts that were drawn together (``resampled_means``).
        seed: of the draws.

    Returns:
        [resamples].
    """
    resamples, seeds = by_seed.shape
    rng = np.random.default_rng([seed, seeds])
    chosen = rng.integers(0, seeds, (resamples, seeds))
    means: Floats = np.take_along_axis(by_seed, chosen, axis=1).mean(axis=1)
    return means


def percentile_interval(samples: Floats, confidence: float = CONFIDENCE) -> Floats:
    """Low and high percentile over the first axis: [2, quantities] of samples [resamples, quantities]."""
    tail = (1 - confidence) / 2
    interval: Floats = np.quantile(samples, [tail, 1 - tail], axis=0)
    return interval


def _counts(prompts: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each prompt was drawn, [chunk, prompts] at a time."""
    rng = np.random.default_rng(seed)
    rows = max(1, _CELLS_PER_CHUNK // prompts)
    for start in range(0, resamples, rows):
        chunk = min(rows, resamples - start)
        drawn = rng.integers(0, prompts, (chunk, prompts))
        drawn += np.arange(chunk)[:, None] * prompts
        yield np.bincount(drawn.ravel(), minlength=chunk * prompts).reshape(chunk, prompts).astype(np.float64)
