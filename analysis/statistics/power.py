"""Which difference a sweep would mark: power of the rule of ``analysis.statistics.marks``, from its variances.

With σ_a² between training seeds, σ_b² between prompts, σ_e² of both together (means over images), S seeds, P prompts,
J comparisons in the family:

    σ² = σ_a² + σ_e²/P;   u_k: midpoint quantiles of χ²_d/d, d = S - 1;   s²(u) = σ² u, moderated with m(v) to s̃²(u, v)
    m(v) = σ² F⁻¹(v)/F⁻¹(1/2), F that of χ²_d;   v_l: midpoint quantiles of Beta((J + 1)/2, (J + 1)/2), a median of J
    B  = σ_b²/P + σ_e²/(S P);   h(u, v) = t(ν(u, v), 1 - α/2) √(s̃²(u, v)/S + B);   SD² = σ_a²/S + B
    power(δ) = mean over u and v of Φ((δ - h)/SD) + Φ((-δ - h)/SD),   α = 0.05 / J (Holm's first step)

In a family of two to six comparisons with two seeds, the shared variance m is itself uncertain: taking it for σ² would
promise up to 18 points of power too much.

Only ``scipy.special`` is imported, because ``ablate plan`` uses this: ``scipy.stats`` takes twice as long to load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from analysis.data.variances import Variances
from analysis.statistics.marks import LEVEL, PRIOR_DEGREES, chi2_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from analysis.data.variances import MeanSquares

    Floats = NDArray[np.float64]

WANTED = 0.8
UPPER_LIMIT = 0.8
"""Confidence with which a variance of a pilot is below its upper limit."""
_QUANTILES = 200
"""Of the seed variance of the comparison."""
_SHARED_QUANTILES = 11
"""Of the seed variance that its family shares."""
_STEPS = 60
"""Halvings of a difference's bracket: to the last digits of a float."""


def variances(observed: Sequence[MeanSquares], upper: bool = False) -> Variances:
    """The components of a family: medians over its comparisons; negative components are zero.

    A variance of few seeds is below the true one more often than above it, so each is divided by the median of its
    χ²/d, as the family's seed variance is for the marks: s² d / χ²_.50(d).

    Args:
        observed: at least one comparison.
        upper: take the upper confidence limit s² d / χ²_.20(d) of each variance instead, for a pilot: a sweep that is
            planned with the estimates of a small pilot has less power than planned in half of all cases.
    """
    share = 1 - UPPER_LIMIT if upper else 0.5
    # Cells with the same images, whose difference is zero at every seed and prompt, say nothing of those that differ.
    observed = [each for each in observed if each.seeds or each.prompts or each.both] or observed
    s = np.array([each.seed_count for each in observed])
    p = np.array([each.prompt_count for each in observed])
    of_both = _scaled([each.both for each in observed], (s - 1) * (p - 1), share)
    of_seeds = _scaled([each.seeds for each in observed], s - 1, share) - of_both / p
    of_prompts = _scaled([each.prompts for each in observed], p - 1, share) - of_both / s
    components = (max(0.0, float(np.median(values))) for values in (of_seeds, of_prompts, of_both))
    return Variances(*components)


def _scaled(mean_squares: Sequence[float], degrees: Floats, share: float) -> Floats:
    scaled: Floats = np.array(mean_squares) * degrees / chi2_quantile(share, degrees)
    return scaled


def power(
    difference: float, components: Variances, seeds: int, prompts: int, family: int, corrected: bool = True
) -> float:
    """The chance in [0, 1] that a true ``difference`` is marked.

    Args:
        difference: in the scorer's unit.
        components: variances of one comparison.
        seeds: at least two.
        prompts: at least two.
        family: comparisons of the family; they share their seed variance, and Holm corrects for them.
        corrected: False: the chance that its own interval excludes zero, whatever the others do.
    """
    half, deviation = _half_widths(components, seeds, prompts, family, corrected)
    return _chance(difference, half, deviation)


def detectable(components: Variances, seeds: int, prompts: int, family: int, corrected: bool = True) -> float | None:
    """The smallest true difference that is marked with a chance of 80 %; None without variation or with one seed."""
    if seeds < 2 or prompts < 2 or components.seeds + components.prompts + components.both <= 0:
        return None
    half, deviation = _half_widths(components, seeds, prompts, family, corrected)
    low, high = 0.0, float(half.max()) + 6 * deviation  # half + 0.84 deviations would do if half were one number
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if _chance(middle, half, deviation) >= WANTED else (middle, high)
    return high


def prompts_needed(
    difference: float, components: Variances, seeds: int, most: int, family: int, corrected: bool = True
) -> int | None:
    """The fewest prompts, from 2 to ``most``, with which ``difference`` is marked with a chance of 80 %, if any."""
    if most < 2 or power(difference, components, seeds, most, family, corrected) < WANTED:
        return None
    low, high = 1, most  # low prompts are too few, high are enough
    while high - low > 1:
        middle = (low + high) // 2
        enough = power(difference, components, seeds, middle, family, corrected) >= WANTED
        low, high = (low, middle) if enough else (middle, high)
    return high


def _half_widths(components: Variances, seeds: int, prompts: int, family: int, corrected: bool) -> tuple[Floats, float]:
    """Half of the interval at each quantile of the observed seed variances, and the true deviation of the mean."""
    d = seeds - 1
    total = components.seeds + components.both / prompts
    of_prompts = components.prompts / prompts + components.both / (seeds * prompts)
    own, degrees = total * chi2_quantile(_midpoints(_QUANTILES), d) / d, float(d)
    if family > 1:
        own = own[:, None]
        median = special.betaincinv((family + 1) / 2, (family + 1) / 2, _midpoints(_SHARED_QUANTILES))
        shared = total * chi2_quantile(median, d) / chi2_quantile(0.5, d)
        own = np.maximum(own, (PRIOR_DEGREES * shared + d * own) / (PRIOR_DEGREES + d)).ravel()
        degrees = min(PRIOR_DEGREES + d, family * d)
    of_seeds = own / seeds
    freedom = (of_seeds + of_prompts) ** 2 / (of_seeds**2 / degrees + of_prompts**2 / (prompts - 1))
    level = LEVEL / family if corrected else LEVEL
    half: Floats = special.stdtrit(freedom, 1 - level / 2) * np.sqrt(of_seeds + of_prompts)
    return half, float(np.sqrt(components.seeds / seeds + of_prompts))


def _midpoints(count: int) -> Floats:
    """Shares of equal distance in (0, 1)."""
    return (np.arange(count) + 0.5) / count


def _chance(difference: float, half: Floats, deviation: float) -> float:
    above, below = special.ndtr((difference - half) / deviation), special.ndtr((-difference - half) / deviation)
    return float((above + below).mean())
