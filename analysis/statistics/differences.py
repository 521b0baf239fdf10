"""Paired comparisons of cells: what a difference is, for each training seed and for these trained models.

For a cell with scores c[s, p, i] (training seed, prompt, image index) and a reference r, the difference of a prompt is
D[s, p] = mean over i of c[s, p, i] - r[s, p, i]; the base model has no seed, so r[p, i] there. The reported difference
is the mean of D. Initial noise is the same for (p, i) in every cell, so the pairing removes the variation of prompts
and noise that both sides share. Whether the difference would occur again is decided by ``analysis.statistics.marks``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from analysis.data.estimate import Interval
from analysis.data.rows import Comparison
from analysis.statistics.bootstrap import RESAMPLES, percentile_interval, resampled_means

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from analysis.data.pairing import Cube

    Floats = NDArray[np.float64]

_COLUMNS = 64
"""Comparisons that are resampled at a time, which bounds memory."""


@dataclass(frozen=True)
class Pairs:
    """Two cells aligned: ``cell`` and ``reference`` broadcast to [seeds, prompts, images] of the shared seeds."""

    seeds: tuple[int, ...]
    cell: Floats
    reference: Floats

    def of_first(self, seeds: int) -> Pairs:
        """The same with the first ``seeds`` training seeds alone."""
        return Pairs(self.seeds[:seeds], self.cell[:seeds], self.reference[:seeds])

    def differences(self) -> Floats:
        """[seeds, prompts]: mean over images of cell minus reference; an image without a number is left out."""
        means: Floats = np.nanmean(self.cell - self.reference, axis=2)
        return means

    def wins(self) -> Floats:
        """[prompts]: share of (seed, image) that the cell wins, ties counted half."""
        wins = (np.sign(self.cell - self.reference) + 1) / 2
        share: Floats = np.nanmean(wins, axis=2).mean(axis=0)
        return share


def align(cell: Cube, reference: Cube) -> Pairs | None:
    """Pair two cells by training seed; a reference without seeds (the base model) is paired with every seed.

    Seeds that only one side has are left out, and the result says which remain; None when none do.

    Raises:
        ValueError: the cubes have other prompts or images, which ``pairing.panels`` rules out.
    """
    if cell.values.shape[1:] != reference.values.shape[1:]:
        raise ValueError(f"unpaired cubes {cell.values.shape} and {reference.values.shape}")
    own = {seed: index for index, seed in enumerate(cell.seeds) if seed is not None}
    if reference.seeds == (None,):
        seeds = tuple(own)
        rows = [0] * len(seeds)
    else:
        other = {seed: index for index, seed in enumerate(reference.seeds) if seed is not None}
        seeds = tuple(seed for seed in own if seed in other)
        rows = [other[seed] for seed in seeds]
    if not seeds:
        return None
    return Pairs(seeds, cell.values[[own[seed] for seed in seeds]], reference.values[rows])


def compare(pairs: Sequence[Pairs], resamples: int = RESAMPLES, seed: int = 0) -> list[Comparison]:
    """Compare each of ``pairs``; all must be about the same prompts, which are drawn once for all of them.

    Args:
        pairs: aligned cells with equal numbers of prompts.
        resamples: bootstrap draws.
        seed: of the draws.

    Returns:
        One comparison for each of ``pairs``.
    """
    if not pairs:
        return []
    columns: list[Floats] = []
    for pair in pairs:
        columns += [pair.wins()[:, None], pair.differences().T]
    samples = resampled_means(np.concatenate(columns, axis=1), resamples, seed)
    comparisons: list[Comparison] = []
    start = 0
    for pair in pairs:
        stop = start + 1 + len(pair.seeds)
        comparisons.append(_comparison(pair, samples[:, start], samples[:, start + 1 : stop]))
        start = stop
    return comparisons


def _comparison(pair: Pairs, wins: Floats, by_seed: Floats) -> Comparison:
    """``wins`` [resamples] and ``by_seed`` [resamples, seeds] are bootstrap means of the pair."""
    observed = pair.differences().mean(axis=1)
    several, prompts = len(pair.seeds) > 1, pair.cell.shape[1]
    return Comparison(
        difference=float(observed.mean()),
        these_models=_interval(by_seed.mean(axis=1), prompts),
        by_seed={number: float(value) for number, value in zip(pair.seeds, observed, strict=True)},
        seed_deviation=float(observed.std(ddof=1)) if several else None,
        win_rate=float(pair.wins().mean()),
        win_rate_these_models=_interval(wins, prompts),
    )


def _interval(samples: Floats, prompts: int) -> Interval | None:
    if prompts < 2:  # every resample is that prompt: the interval would have no width
        return None
    low, high = percentile_interval(samples)
    return Interval(float(low), float(high))


def noise_floor(cubes: Sequence[Cube], seed: int = 0) -> tuple[int, int]:
    """How often the same recipe at another training seed looks different over prompts: (that exclude zero, of all).

    Every two training seeds of every cell are compared, over prompts alone: both are one recipe, so each interval that
    excludes zero would be a false mark if prompts decided it. (0, 0) with a single prompt, which has no interval.
    """
    excluding_zero = total = 0
    for cube in (cube for cube in cubes if cube.values.shape[1] > 1):
        means = np.nanmean(cube.values, axis=2)
        columns = [means[first] - means[second] for first, second in combinations(range(len(means)), 2)]
        for start in range(0, len(columns), _COLUMNS):
            samples = resampled_means(np.stack(columns[start : start + _COLUMNS], axis=1), seed=seed)
            low, high = percentile_interval(samples)
            excluding_zero += int(((low > 0) | (high < 0)).sum())
        total += len(columns)
    return excluding_zero, total
