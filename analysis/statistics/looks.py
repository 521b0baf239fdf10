"""Group-sequential looks: when a comparison with the baseline needs no more training seeds.

The looks are at S_1 < ... < S_K seeds. A sweep with J comparisons may be wrong about a difference with a chance of at
most α = 0.05 over all comparisons and all looks together. By the look at the share t = S_k/S_K of the seeds, the family
may have spent (O'Brien and Fleming's shape; Lan and DeMets, Biometrika 70, 1983)

    α(t) = 2 - 2 Φ(z / √t),   z = Φ⁻¹(1 - α/2),   a comparison an equal part of it, α(t)/J.

The level of look k is the p value ℓ_k for which a comparison without a difference crosses for the first time at look k
with probability (α(t_k) - α(t_{k-1}))/J, where the means over seeds at the looks are those of a Brownian motion at the
times t_k. It is found by integrating over the density of what has not crossed (Armitage, McPherson and Rowe, Journal of
the Royal Statistical Society A 132, 1969). For J = 1 and 3, 5, 7, 10 seeds: 0.00035, 0.0054, 0.0171, 0.0426.

At look k the interval of a comparison is D̄ ± t(ν; 1 - ℓ_k/2) SE, with D̄, SE and ν as in ``analysis.statistics.marks``.
The comparison stops where the interval excludes zero (different), where it lies inside ±margin (equivalent), and at
look K. Prompts stay the same from look to look, so a mean over seeds moves less than the Brownian motion, and the error
that is made is smaller than the one spent. The guarantee does not depend on which comparisons stop: all intervals of
all looks hold together with 95 %.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from analysis.data.looks import DIFFERENT, EQUIVALENT, OPEN, UNDECIDED, CellLook
from analysis.data.rows import Mark
from analysis.statistics.marks import LEVEL, LOOKS, estimates

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from analysis.data.estimate import Estimate

    Floats = NDArray[np.float64]

_NODES = 200
"""Points of the integration over what has not crossed; the levels are exact to 1e-9 with half as many."""
_MOST_DEVIATIONS = 30.0


def obrien_fleming(times: Floats) -> Floats:
    """The share of errors spent by each of ``times`` in (0, 1]: [looks] of [looks]; 0.05 at time 1."""
    spent: Floats = 2 * stats.norm.sf(stats.norm.isf(LEVEL / 2) / np.sqrt(times))
    return spent


def nominal_levels(times: Floats, spent: Floats) -> Floats:
    """Two-sided p values that spend errors as planned.

    Args:
        times: shares of the information at the looks, ascending, the last one 1.
        spent: the chance of having crossed by each look without a difference, ascending, positive.

    Returns:
        [looks].
    """
    levels = np.empty(len(times))
    # What has not crossed: values of the Brownian motion, weights of the integration, density.
    places, weights, density = np.zeros(1), np.ones(1), np.ones(1)
    nodes, node_weights = np.polynomial.legendre.leggauss(_NODES)
    before, already = 0.0, 0.0
    for look, (time, total) in enumerate(zip(times, spent, strict=True)):
        step = np.sqrt(time - before)

        increment, motion = total - already, (places, weights * density, step)
        bound = brentq(lambda at, of, wanted: _crossing(at, *of) - wanted, 0.0, _MOST_DEVIATIONS, (motion, increment))
        levels[look] = 2 * stats.norm.sf(bound / np.sqrt(time))
        arrived = bound * nodes
        density = (weights * density * stats.norm.pdf((arrived[:, None] - places) / step)).sum(axis=1) / step
        places, weights, before, already = arrived, bound * node_weights, time, total
    return levels


def _crossing(bound: float, places: Floats, masses: Floats, step: float) -> float:
    """The chance that a motion which is at ``places`` with ``masses`` is outside ±``bound`` after ``step``."""
    outside = stats.norm.sf((bound - places) / step) + stats.norm.cdf((-bound - places) / step)
    return float((masses * outside).sum())


@lru_cache
def levels(counts: tuple[int, ...], family: int) -> tuple[float, ...]:
    """The largest p value that establishes a difference, at each look.

    Args:
        counts: training seeds at the looks, ascending.
        family: comparisons that share the error of 0.05.
    """
    times = np.array(counts) / counts[-1]
    return tuple(nominal_levels(times, obrien_fleming(times) / family).tolist())


def take_look(
    differences: Mapping[str, Floats],
    open_cells: Collection[str],
    counts: tuple[int, ...],
    look: int,
    family: int,
    margin: float | None,
) -> dict[str, CellLook]:
    """Decide on the open comparisons of a family.

    Args:
        differences: cell -> [seeds, prompts] of every comparison that has any; an open one has the seeds of this look,
            a stopped one those of its own. The stopped ones count for the family's seed variance.
        open_cells: those to decide on; each is in ``differences``.
        counts: training seeds at the looks.
        look: number of this look, from 1.
        family: comparisons of the sweep.
        margin: half width of what counts as no difference; None: only differences stop a comparison.
    """
    level = levels(counts, family)[look - 1]
    last = look == len(counts)
    made = dict(zip(differences, estimates(list(differences.values()), level), strict=True))
    return {
        name: CellLook(
            look,
            counts[look - 1],
            _reason(made[name], margin, last),
            level,
            float(differences[name].mean()),
            made[name],
        )
        for name in open_cells
    }


def _reason(estimate: Estimate, margin: float | None, last: bool) -> str:
    interval = estimate.interval
    if interval.excludes_zero:
        return DIFFERENT
    if margin is not None and -margin < interval.low and interval.high < margin:
        return EQUIVALENT
    return UNDECIDED if last else OPEN


def look_marks(p_values: Sequence[float], at_levels: Sequence[float]) -> list[Mark]:
    """The marks of comparisons that were each taken at the level of a look.

    The corrected p value is p · 0.05 / level: below 0.05 exactly where the look establishes a difference.
    """
    return [Mark(min(1.0, p * LEVEL / level), LOOKS, p < level) for p, level in zip(p_values, at_levels, strict=True)]
