"""When a difference may be called one: intervals and p values for new prompts *and* new training seeds.

Prompts are a sample, and so are training seeds: the same recipe at another seed is another model. For comparison j of a
family (one scorer, one split, one reference) with differences D_j[s, p] (training seed, prompt; mean over images):

    s²_j = variance (n - 1) over seeds of the per-seed means              d_j = S_j - 1
    w²_j = variance (n - 1) over prompts of the per-prompt means
    m    = median_j(s²_j d_j / median of χ² with d_j degrees of freedom)
    s̃²_j = max(s²_j, (4 m + d_j s²_j) / (4 + d_j)),   d̃_j = min(4 + d_j, Σ_k d_k);   a family of one: s̃² = s², d̃ = d
    A = s̃²/S,  B = w²/P,  SE² = A + B,  ν = (A + B)² / (A²/d̃ + B²/(P - 1))        (Satterthwaite)
    interval  D̄ ± t(ν; 0.975) SE,   p = P(|T_ν| > |D̄| / SE)

Few seeds say little about their variance, so it is moderated by that of the other comparisons of the family, and never
taken for less than was seen. ``tests/analysis/test_marks.py`` has the coverage and the family-wise error by simulation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.comparison import Estimate, Interval, Mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVEL = 0.05
"""Share of false marks: of families with one by Holm, of marks by Benjamini-Hochberg."""
HOLM, BENJAMINI_HOCHBERG = "Holm", "Benjamini-Hochberg"
PRIOR_DEGREES = 4
"""What the family's seed variance counts for, in degrees of freedom."""
_DISAGREE = 3.0


def estimates(differences: Sequence[Floats]) -> list[Estimate]:
    """Estimates of one family.

    Args:
        differences: one array [seeds, prompts] per comparison, each with at least two of both; the numbers of seeds may
            differ between comparisons.

    Raises:
        ValueError: fewer than two seeds or prompts.
    """
    from scipy import stats

    if any(min(values.shape) < 2 for values in differences):
        raise ValueError("an estimate needs at least two seeds and two prompts")
    degrees = np.array([len(values) - 1 for values in differences], dtype=np.float64)
    own = np.array([values.mean(axis=1).var(ddof=1) for values in differences])
    shared = float(np.median(own * degrees / stats.chi2.median(degrees))) if len(own) else 0.0
    found = []
    for values, d, variance in zip(differences, degrees, own, strict=True):
        moderated, moderated_degrees = variance, d
        if len(differences) > 1:
            moderated = max(variance, (PRIOR_DEGREES * shared + d * variance) / (PRIOR_DEGREES + d))
            moderated_degrees = min(PRIOR_DEGREES + d, degrees.sum())
        seeds, prompts = values.shape
        of_seeds = moderated / seeds
        of_prompts = values.mean(axis=0).var(ddof=1) / prompts
        mean, error = float(values.mean()), float(np.sqrt(of_seeds + of_prompts))
        if error > 0:
            freedom = float(error**4 / (of_seeds**2 / moderated_degrees + of_prompts**2 / (prompts - 1)))
            p = float(2 * stats.t.sf(abs(mean) / error, freedom))
        else:  # no variation at all, as of a cell with itself
            freedom, p = float(moderated_degrees), float(mean == 0)
        half = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * error
        disagree = len(differences) > 1 and bool(variance > _DISAGREE * shared)
        found.append(Estimate(Interval(mean - half, mean + half), freedom, p, float(variance), disagree))
    return found


def marks(p_values: Sequence[float], adjustment: str, size: int) -> list[Mark]:
    """The marks of one family.

    Args:
        p_values: of the comparisons that are there.
        adjustment: ``HOLM`` for the primary scorer and split, where no false mark is wanted; ``BENJAMINI_HOCHBERG`` for
            exploring the others, where a share of ``LEVEL`` of the marks may be false.
        size: comparisons of the family, also those that are not there yet; they count as p = 1, so that a partial
            table marks nothing that the whole one could not.
    """
    adjust = holm if adjustment == HOLM else _benjamini_hochberg
    padded = np.array([*p_values, *[1.0] * (size - len(p_values))])
    adjusted = adjust(padded)[: len(p_values)]
    return [Mark(float(p), adjustment, bool(p < LEVEL)) for p in adjusted]


def holm(p_values: Floats) -> Floats:
    """Holm's step-down p values (Scandinavian Journal of Statistics 6, 1979): [n] of [n]."""
    order = np.argsort(p_values, kind="stable")
    left = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * left))
    return adjusted


def _benjamini_hochberg(p_values: Floats) -> Floats:
    from scipy import stats

    adjusted: Floats = stats.false_discovery_control(p_values, method="bh")
    return adjusted
