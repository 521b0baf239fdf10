"""The power of a plan: hand values, simulation of the rule, variances found again from what was observed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.data.variances import MeanSquares, Variances
from analysis.statistics.marks import HOLM, estimates, marks
from analysis.statistics.power import detectable, power, prompts_needed, variances
from tests.analysis.statistics.test_marks import OF_BOTH, OF_PROMPTS, PROMPTS, SEED_DEVIATION, draw

EMOJI = Variances(SEED_DEVIATION**2, OF_PROMPTS, OF_BOTH)


def observed(family: list[np.ndarray]) -> list[MeanSquares]:
    """What the rows hold of each comparison."""
    return [
        MeanSquares(each.seed_variance, each.prompt_variance, each.residual_variance, *values.shape)
        for values, each in zip(family, estimates(family), strict=True)
    ]


def simulated(
    rng: np.random.Generator, components: Variances, effect: float, shape: tuple[int, int, int], level: float
) -> float:
    """Share of 4,000 families whose first comparison, with a true ``effect``, has p below ``level``.

    An independent implementation of the rule, for many families at once.

    Args:
        rng: of the draws.
        components: variances of every comparison.
        effect: of the first one; the others have none.
        shape: (comparisons, seeds, prompts).
        level: of the test.
    """
    families, (cells, s, p) = 4_000, shape
    drawn = rng.normal(0, components.seeds**0.5, (families, cells, s, 1)) + rng.normal(
        0, components.prompts**0.5, (families, cells, 1, p)
    )
    values = drawn + rng.normal(0, components.both**0.5, (families, cells, s, p))
    own = values.mean(axis=3).var(axis=2, ddof=1)
    first, d = own[:, 0], s - 1
    moderated, degrees = first, float(d)
    if cells > 1:
        shared = np.median(own, axis=1) * d / stats.chi2.median(d)
        moderated, degrees = np.maximum(first, (4 * shared + d * first) / (4 + d)), min(4 + d, cells * d)
    of_seeds, of_prompts = moderated / s, values[:, 0].mean(axis=1).var(axis=1, ddof=1) / p
    error = np.sqrt(of_seeds + of_prompts)
    freedom = error**4 / (of_seeds**2 / degrees + of_prompts**2 / (p - 1))
    chance = 2 * stats.t.sf(np.abs(values[:, 0].mean(axis=(1, 2)) + effect) / error, freedom)
    return float((chance < level).mean())


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("cells", [1, 2, 6])
@pytest.mark.parametrize("components", [Variances(0.3, 1.2, 4.2), Variances(0.02, 1.0, 3.0)], ids=["seeds", "prompts"])
def test_simulated_power_is_within_four_points_of_the_plan(seeds, cells, components):
    """At the effect that the plan calls detectable with 80 %, for one comparison and at Holm's first step."""
    prompts = 24
    rng = np.random.default_rng([seeds, cells, int(100 * components.seeds)])
    for corrected in (False, True):
        effect = detectable(components, seeds, prompts, cells, corrected)
        level = 0.05 / cells if corrected else 0.05
        assert power(effect, components, seeds, prompts, cells, corrected) == pytest.approx(0.8, abs=1e-6)
        assert simulated(rng, components, effect, (cells, seeds, prompts), level) == pytest.approx(0.8, abs=0.04)


def test_simulation_and_rule_are_the_same_rule():
    """The vectorised rule above against ``estimates``, on the golden comparisons' shape."""
    rng = np.random.default_rng(3)
    family = [rng.normal(0, 1, (3, 8)) + rng.normal(0, 1, (3, 1)) for _ in range(4)]
    p_value = estimates(family)[0].p
    own = np.array([values.mean(axis=1).var(ddof=1) for values in family])
    shared = np.median(own) * 2 / stats.chi2.median(2)
    a = max(own[0], (4 * shared + 2 * own[0]) / 6) / 3
    b = family[0].mean(axis=0).var(ddof=1) / 8
    freedom = (a + b) ** 2 / (a**2 / 6 + b**2 / 7)
    assert p_value == pytest.approx(2 * stats.t.sf(abs(family[0].mean()) / (a + b) ** 0.5, freedom))


@pytest.mark.slow
def test_planned_power_is_that_of_the_rule():
    """Simulated power of Holm's mark for one true effect among 13 equal cells, within 4 points of the plan."""
    rng = np.random.default_rng(11)
    for seeds, effect in ((3, 0.025), (5, 0.02)):
        tables, marked = 500, 0
        for _ in range(tables):
            family = draw(rng, 14, seeds, SEED_DEVIATION, [effect, *[0.0] * 13])
            marked += marks([each.p for each in estimates(family)], HOLM, 14)[0].given
        assert marked / tables == pytest.approx(power(effect, EMOJI, seeds, PROMPTS, 14), abs=0.04 + 0.02)


def test_detectable_differences_of_the_emoji_world():
    """Hand-checked figures for 3, 5 and 10 seeds, alone and by Holm among 14 cells, where m was taken for certain."""
    expected = {3: (0.017, 0.027), 5: (0.013, 0.019), 10: (0.010, 0.013)}
    for seeds, (alone, corrected) in expected.items():
        assert detectable(EMOJI, seeds, PROMPTS, 14, corrected=False) == pytest.approx(alone, abs=6e-4)
        assert detectable(EMOJI, seeds, PROMPTS, 14) == pytest.approx(corrected, abs=6e-4)
    assert detectable(EMOJI, 1, PROMPTS, 14) is None
    assert detectable(Variances(0, 0, 0), 3, PROMPTS, 14) is None


def test_variances_are_found_again():
    rng = np.random.default_rng(5)
    components = variances(observed(draw(rng, 200, 5, 0.02)))
    assert components.seeds**0.5 == pytest.approx(0.02, rel=0.12)
    assert components.prompts == pytest.approx(OF_PROMPTS, rel=0.1)
    assert components.both == pytest.approx(OF_BOTH, rel=0.02)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_few_seeds_do_not_make_the_seed_variance_look_small(seeds):
    """The median over comparisons of s² alone is 0.45 (two seeds) to 0.84 (five) of the true variance."""
    rng = np.random.default_rng(seeds)
    squares = 0.0004 * rng.chisquare(seeds - 1, 4_000) / (seeds - 1)
    components = variances([MeanSquares(value, 0.0, 0.0, seeds, PROMPTS) for value in squares])
    assert components.seeds == pytest.approx(0.0004, rel=0.06)


def test_the_components_of_one_comparison_by_hand():
    """S = 3, P = 8: each mean square over the median of its χ²/d, then the crossed design's subtraction."""
    of_both = 0.014 * 14 / stats.chi2.median(14)
    components = variances([MeanSquares(0.01, 0.02, 0.014, 3, 8)])
    assert components.both == pytest.approx(of_both)
    assert components.seeds == pytest.approx(0.01 * 2 / 1.386294 - of_both / 8, rel=1e-6)
    assert components.prompts == pytest.approx(0.02 * 7 / stats.chi2.median(7) - of_both / 3)
    assert variances([MeanSquares(0.0, 0.0, 0.014, 3, 8)]) == Variances(0.0, 0.0, components.both)


def test_cells_with_equal_images_promise_no_power():
    one, same = MeanSquares(0.01, 0.02, 0.014, 3, 8), MeanSquares(0.0, 0.0, 0.0, 3, 8)
    assert variances([same, one, same]) == variances([one])
    assert detectable(variances([same]), 3, 8, 1) is None


def test_a_pilot_counts_with_its_upper_limit():
    """s² d/χ²_.20(d); the true variance is below it in four of five pilots."""
    components = variances([MeanSquares(0.01, 0.0, 0.0, 3, 100)], upper=True)
    assert components.seeds == pytest.approx(0.01 * 2 / stats.chi2.ppf(0.2, 2))
    rng = np.random.default_rng(0)
    squares = rng.chisquare(2, 2_000) / 2
    limits = [variances([MeanSquares(value, 0.0, 0.0, 3, 100)], upper=True).seeds for value in squares]
    assert np.mean(np.array(limits) > 1) == pytest.approx(0.8, abs=0.03)


def test_the_fewest_prompts_are_enough_and_one_less_is_not():
    for seeds, corrected in ((3, False), (5, True), (10, True)):
        prompts = prompts_needed(0.021, EMOJI, seeds, 5_000, 14, corrected)
        assert prompts is not None
        assert power(0.021, EMOJI, seeds, prompts, 14, corrected) >= 0.8
        assert power(0.021, EMOJI, seeds, prompts - 1, 14, corrected) < 0.8
    assert prompts_needed(0.001, EMOJI, 5, 5_000, 14) is None
    assert prompts_needed(100.0, EMOJI, 5, 1, 14) is None
    assert prompts_needed(100.0, EMOJI, 5, 9, 14) == 2


def test_more_prompts_cannot_replace_seeds():
    """The part of the seeds stays: no number of prompts sees what three seeds hide."""
    assert prompts_needed(0.01, EMOJI, 3, 10**6, 14) is None
    assert prompts_needed(0.01, EMOJI, 12, 10**6, 14) is not None
