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
taken for less than was observed. Cells can have the same images although their keys differ, as when two metrics select
the same pairs: of equal comparisons one counts for m and Σ_k, and those with the images of the reference do not count.
``tests/analysis/statistics/test_marks.py`` has the coverage and the family-wise error by simulation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from analysis.data.estimate import Estimate, Interval
from analysis.data.rows import Mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVEL = 0.05
"""Share of false marks: of families with one by Holm, of marks by Benjamini-Hochberg."""
HOLM, BENJAMINI_HOCHBERG, LOOKS = "Holm", "Benjamini-Hochberg", "looks"
PRIOR_DEGREES = 4
"""What the family's seed variance counts for, in degrees of freedom."""
_DISAGREE = 3.0


def estimates(differences: Sequence[Floats], level: float | Floats = LEVEL) -> list[Estimate]:
    """Estimates of one family.

    Args:
        differences: one array [seeds, prompts] per comparison, each with at least two of both; the numbers of seeds may
            differ between comparisons.
        level: the intervals enclose with 1 - ``level``; one for all, or one for each.

    Raises:
        ValueError: fewer than two seeds or prompts.
    """
    if any(min(values.shape) < 2 for values in differences):
        raise ValueError("an estimate needs at least two seeds and two prompts")
    if not differences:
        return []
    seeds, prompts = np.array([values.shape for values in differences], dtype=np.float64).T
    degrees = seeds - 1
    mean = np.array([values.mean() for values in differences])
    own = np.array([values.mean(axis=1).var(ddof=1) for values in differences])
    moderated, moderated_degrees, disagree = _moderated(own, degrees, _informative(differences))
    of_other_images = np.array([values.any() for values in differences])
    moderated = np.where(of_other_images, moderated, 0.0)  # between equal images there is no difference at any seed
    of_seeds = moderated / seeds
    of_prompts = np.array([values.mean(axis=0).var(ddof=1) for values in differences]) / prompts
    error = np.sqrt(of_seeds + of_prompts)
    varies = error > 0  # False for cells of the same images: their difference is certainly zero
    with np.errstate(divide="ignore", invalid="ignore"):
        satterthwaite = error**4 / (of_seeds**2 / moderated_degrees + of_prompts**2 / (prompts - 1))
        p = np.where(varies, 2 * special.stdtr(satterthwaite, -np.abs(mean) / error), mean == 0)
    freedom = np.where(varies, satterthwaite, moderated_degrees)
    at_levels = np.broadcast_to(level, len(mean))
    half = special.stdtrit(freedom, 1 - at_levels / 2) * error
    residual = [_residual_variance(values) for values in differences]
    of_prompt = prompts * of_prompts
    columns = zip(mean - half, mean + half, freedom, p, own, of_prompt, residual, disagree, at_levels, strict=True)
    return [
        Estimate(
            interval=Interval(float(low), float(high)),
            degrees_of_freedom=float(nu),
            p=float(chance),
            seed_variance=float(of_seed),
            prompt_variance=float(of_prompt),
            residual_variance=rest,
            seeds_disagree=bool(apart),
            level=float(at),
        )
        for low, high, nu, chance, of_seed, of_prompt, rest, apart, at in columns
    ]


def _residual_variance(values: Floats) -> float:
    """What neither seeds nor prompts explain of [seeds, prompts]: the residual mean square of the crossed design."""
    seeds, prompts = values.shape
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + values.mean()
    return float((rest**2).sum() / ((seeds - 1) * (prompts - 1)))


def _informative(differences: Sequence[Floats]) -> NDArray[np.bool_]:
    """Which comparisons say something of their own about seeds: not all zero, and equal to none before them."""
    seen: set[tuple[tuple[int, ...], bytes]] = set()
    informative = []
    for values in differences:
        content = (values.shape, values.tobytes())
        informative.append(bool(values.any()) and content not in seen)
        seen.add(content)
    return np.array(informative)


def _moderated(
    own: Floats, degrees: Floats, informative: NDArray[np.bool_]
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Seed variances and degrees of freedom moderated by the ``informative`` comparisons, and which ones stand out."""
    if informative.sum() < 2:
        return own, degrees, np.zeros(len(own), dtype=bool)
    shared = float(np.median((own * degrees / chi2_quantile(0.5, degrees))[informative]))
    moderated = np.maximum(own, (PRIOR_DEGREES * shared + degrees * own) / (PRIOR_DEGREES + degrees))
    moderated_degrees = np.minimum(PRIOR_DEGREES + degrees, degrees[informative].sum())
    return moderated, moderated_degrees, own > _DISAGREE * shared


def chi2_quantile(share: float | Floats, degrees: float | Floats) -> Floats:
    """Quantiles of χ²: the value below which a ``share`` in (0, 1) of it lies."""
    quantile: Floats = 2 * special.gammaincinv(np.asarray(degrees) / 2, share)
    return quantile


def marks(p_values: Sequence[float], adjustment: str, size: int) -> list[Mark]:
    """The marks of one family.

    Args:
        p_values: of the comparisons evaluated so far.
        adjustment: ``HOLM`` for the primary scorer and split, where no false mark is wanted; ``BENJAMINI_HOCHBERG`` for
            exploring the others, where a share of ``LEVEL`` of the marks may be false.
        size: comparisons of the family, including those not evaluated yet; these count as p = 1, so that a partial
            table marks nothing that the complete one could not.
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
    """Benjamini and Hochberg's step-up p values (Journal of the Royal Statistical Society B 57, 1995): [n] of [n]."""
    order = np.argsort(p_values, kind="stable")[::-1]
    rank = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(p_values[order] * len(p_values) / rank))
    return adjusted
