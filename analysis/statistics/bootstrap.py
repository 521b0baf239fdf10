"""Percentile bootstrap over prompts in bounded memory."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 10_000
CONFIDENCE = 0.95
_COUNTS_PER_CHUNK = 2_000_000
"""Counts held at a time, 8 bytes each."""
_MOST_KEPT = 40_000_000
"""Counts that are kept for the next call, 2 bytes each: a table asks for the same draws dozens of times."""


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


def percentile_interval(samples: Floats, confidence: float = CONFIDENCE) -> Floats:
    """Low and high percentile over the first axis: [2, quantities] of samples [resamples, quantities]."""
    tail = (1 - confidence) / 2
    interval: Floats = np.quantile(samples, [tail, 1 - tail], axis=0)
    return interval


def _counts(prompts: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each prompt was drawn, [chunk, prompts] at a time."""
    small = prompts * resamples <= _MOST_KEPT
    for counts in _kept(prompts, resamples, seed) if small else _drawn(prompts, resamples, seed):
        yield counts.astype(np.float64)


@lru_cache(maxsize=2)
def _kept(prompts: int, resamples: int, seed: int) -> list[NDArray[np.uint16]]:
    return [counts.astype(np.uint16) for counts in _drawn(prompts, resamples, seed)]


def _drawn(prompts: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    rows = max(1, _COUNTS_PER_CHUNK // prompts)
    for start in range(0, resamples, rows):
        chunk = min(rows, resamples - start)
        drawn = rng.integers(0, prompts, (chunk, prompts))
        # One bincount for all resamples of the chunk: each has its own range of numbers.
        drawn += np.arange(chunk)[:, None] * prompts
        yield np.bincount(drawn.ravel(), minlength=chunk * prompts).reshape(chunk, prompts)
