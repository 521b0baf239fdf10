"""Which difference a sweep would mark: power of the rule of ``analysis.statistics.marks``, from its variances.

With σ_a² between training seeds, σ_b² between prompts, σ_e² of both together (means over images), S seeds, P prompts:

    σ² = σ_a² + σ_e²/P;   u_k = 400 midpoint quantiles of χ²_d/d, d = S - 1;   s²(u) = σ² u, moderated with m = σ²
    B  = σ_b²/P + σ_e²/(S P);   h(u) = t(ν(u), 1 - α/2) √(s̃²(u)/S + B);   SD² = σ_a²/S + B
    power(δ) = mean over u of Φ((δ - h)/SD) + Φ((-δ - h)/SD),   α = 0.05 / size of the family (Holm's first step)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from analysis.statistics.marks import LEVEL, PRIOR_DEGREES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

WANTED = 0.8
_QUANTILES = 400


@dataclass(frozen=True)
class Variances:
    """Of differences of two cells: between training seeds, between prompts, and of both together."""

    seeds: float
    prompts: float
    both: float


def variances(differences: Sequence[Floats]) -> Variances:
    """The components of a family: medians over its comparisons [seeds, prompts], each with two or more seeds.

    Mean squares of a crossed design with one value per cell; negative components are zero.
    """
    seeds, prompts, both = [], [], []
    for values in differences:
        s, p = values.shape
        by_seed, by_prompt = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
        residual = float(((values - by_seed - by_prompt + values.mean()) ** 2).sum() / ((s - 1) * (p - 1)))
        both.append(residual)
        seeds.append(float(by_seed.var(ddof=1)) - residual / p)
        prompts.append(float(by_prompt.var(ddof=1)) - residual / s)
    return Variances(max(0.0, float(np.median(seeds))), max(0.0, float(np.median(prompts))), float(np.median(both)))


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
    d = seeds - 1
    total = components.seeds + components.both / prompts
    of_prompts = components.prompts / prompts + components.both / (seeds * prompts)
    own = total * stats.chi2.ppf((np.arange(_QUANTILES) + 0.5) / _QUANTILES, d) / d
    moderated, degrees = own, float(d)
    if family > 1:
        moderated = np.maximum(own, (PRIOR_DEGREES * total + d * own) / (PRIOR_DEGREES + d))
        degrees = min(PRIOR_DEGREES + d, family * d)
    of_seeds = moderated / seeds
    freedom = (of_seeds + of_prompts) ** 2 / (of_seeds**2 / degrees + of_prompts**2 / (prompts - 1))
    level = LEVEL / family if corrected else LEVEL
    half = stats.t.ppf(1 - level / 2, freedom) * np.sqrt(of_seeds + of_prompts)
    deviation = np.sqrt(components.seeds / seeds + of_prompts)
    chances = stats.norm.cdf((difference - half) / deviation) + stats.norm.cdf((-difference - half) / deviation)
    return float(chances.mean())


def detectable(components: Variances, seeds: int, prompts: int, family: int, corrected: bool = True) -> float | None:
    """The smallest true difference that is marked with a chance of 80 %; None without variation or with one seed."""
    if seeds < 2 or prompts < 2 or components.seeds + components.prompts + components.both <= 0:
        return None
    high = 1e-12  # doubled until the power suffices: the scale of scores is not known
    while power(high, components, seeds, prompts, family, corrected) < WANTED:
        high *= 2
    return float(brentq(lambda at: power(at, components, seeds, prompts, family, corrected) - WANTED, 0, high))
