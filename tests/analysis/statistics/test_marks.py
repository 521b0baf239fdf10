"""The rule of marks: golden values, properties, and what it promises, by simulation of crossed random effects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analysis.statistics.differences import Pairs, compare
from analysis.statistics.marks import BENJAMINI_HOCHBERG, HOLM, estimates, holm, marks

PROMPTS = 312
OF_PROMPTS, OF_BOTH = 0.0012, 0.0042
"""Variances of differences on the emoji world: between prompts, and between (seed, prompt)."""
SEED_DEVIATION = 0.007
"""Between training seeds there, median over comparisons; 0.012 is the upper decile."""


def golden() -> list[np.ndarray]:
    """Three comparisons of 3 seeds and 8 prompts, in radians."""
    p, s = np.arange(8)[None, :], np.arange(3)[:, None]
    return [
        0.02 + 0.01 * np.sin(p + 1) + 0.006 * np.cos(2 * s + 1) + 0.004 * np.sin(3 * p + 5 * s),
        0.01 * np.cos(p + 2) + 0.002 * np.cos(2 * s + 2) + 0.004 * np.cos(2 * p + 3 * s),
        -0.03 + 0.01 * np.sin(2 * p) + 0.020 * np.sin(s) + 0.004 * np.sin(p + 4 * s),
    ]


def draw(rng: np.random.Generator, cells: int, seeds: int, seed_deviation: float, effects=0.0) -> list[np.ndarray]:
    """Differences [seeds, prompts] of ``cells`` comparisons, the part of a prompt drawn for each of them."""
    effect = np.broadcast_to(effects, cells)
    return [
        effect[cell]
        + rng.normal(0, seed_deviation, (seeds, 1))
        + rng.normal(0, OF_PROMPTS**0.5, (1, PROMPTS))
        + rng.normal(0, OF_BOTH**0.5, (seeds, PROMPTS))
        for cell in range(cells)
    ]


def test_golden_values():
    estimated = estimates(golden())
    expected = [
        (0.012131179, 0.031004413, 12.437168, 0.000297155, 0.000891465),
        (-0.009800654, 0.007180061, 12.571990, 0.743471207, 0.743471207),
        (-0.031848236, -0.002725392, 8.501285, 0.025244940, 0.050489879),
    ]
    adjusted = marks([each.p for each in estimated], HOLM, 3)
    for values, each, mark, row in zip(golden(), estimated, adjusted, expected, strict=True):
        assert (each.interval.low + each.interval.high) / 2 == pytest.approx(values.mean(), abs=1e-12)
        numbers = (each.interval.low, each.interval.high, each.degrees_of_freedom, each.p, mark.p_adjusted)
        assert numbers == pytest.approx(row, rel=1e-6, abs=1e-9)
    assert [mark.given for mark in adjusted] == [True, False, False]


def test_golden_values_of_a_comparison_alone():
    (alone,) = estimates(golden()[:1])
    assert (alone.interval.low, alone.interval.high) == pytest.approx((0.011708692, 0.031426899), abs=1e-9)
    assert (alone.degrees_of_freedom, alone.p) == pytest.approx((6.175946, 0.001645568), rel=1e-6)
    assert not alone.seeds_disagree


def test_a_comparison_alone_is_the_textbook_t_where_prompts_do_not_vary():
    """Independent implementation: only seeds vary, so it is scipy's one-sample t test of the per-seed means."""
    from scipy import stats

    by_seed = np.array([0.3, 0.1, 0.45, 0.2])
    (estimate,) = estimates([np.repeat(by_seed[:, None], 50, axis=1)])
    test = stats.ttest_1samp(by_seed, 0)
    assert estimate.p == pytest.approx(test.pvalue)
    low, high = test.confidence_interval(0.95)
    assert (estimate.interval.low, estimate.interval.high) == pytest.approx((low, high))


def test_an_outlying_cell_is_named():
    rng = np.random.default_rng(1)
    family = draw(rng, 6, 5, SEED_DEVIATION)
    family[2] = family[2] + np.linspace(-0.1, 0.1, 5)[:, None]
    assert [each.seeds_disagree for each in estimates(family)] == [False, False, True, False, False, False]


def test_holm_and_benjamini_hochberg_by_hand():
    p = [0.01, 0.04, 0.03, 0.005]
    assert holm(np.array(p)) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [mark.p_adjusted for mark in marks(p, BENJAMINI_HOCHBERG, 4)] == pytest.approx([0.02, 0.04, 0.04, 0.02])


def test_comparisons_that_are_not_there_yet_count():
    """A partial table of two of ten comparisons marks nothing that the whole one could not."""
    assert [mark.p_adjusted for mark in marks([0.004, 0.006], HOLM, 10)] == pytest.approx([0.04, 0.054])
    assert [mark.given for mark in marks([0.004, 0.006], HOLM, 2)] == [True, True]


values = hnp.arrays(np.float64, (3, 6), elements=st.sampled_from([-1.5, -0.25, 0.0, 0.25, 3.0]))


@given(st.lists(values, min_size=1, max_size=4), st.floats(0.1, 10))
@settings(max_examples=60, deadline=None)
def test_signs_and_units_carry_over(family, scale):
    """-c times the scores gives -c times the interval and the same p: no unit, no direction is preferred."""
    plain, changed = estimates(family), estimates([-scale * each for each in family])
    for one, other in zip(plain, changed, strict=True):
        assert other.interval.low == pytest.approx(-scale * one.interval.high, abs=1e-9)
        assert other.p == pytest.approx(one.p, abs=1e-9)


@given(values, values)
@settings(max_examples=40, deadline=None)
def test_company_never_lowers_a_cells_own_seed_variance(first, second):
    """Moderation by the family may lengthen an interval's part from seeds, never shorten it below what was seen."""
    from scipy import stats

    for values_of, estimate in zip((first, second), estimates([first, second]), strict=True):
        half = (estimate.interval.high - estimate.interval.low) / 2
        error = half / stats.t.ppf(0.975, estimate.degrees_of_freedom)
        own = values_of.mean(axis=1).var(ddof=1) / 3 + values_of.mean(axis=0).var(ddof=1) / 6
        assert error**2 >= own * (1 - 1e-9)


def test_a_cell_without_any_variation():
    same, other = np.zeros((2, 4)), np.full((2, 4), 0.5)
    estimated = estimates([same, other])
    assert [each.p for each in estimated] == [1.0, 0.0]
    assert (estimated[0].interval.low, estimated[0].interval.high) == (0, 0)


def test_cells_with_equal_images_say_nothing_of_the_seed_variance_of_others():
    """As of two metrics that select the same pairs: the keys differ, every score is the same."""
    one, two, three = golden()
    nothing = np.zeros_like(one)
    alone, family = estimates([one]), estimates([one, two, three])

    assert estimates([nothing, one, nothing])[1] == alone[0]
    assert estimates([one, one.copy()]) == alone * 2
    assert estimates([one, nothing, two, one.copy(), three, nothing])[0:3:2] == family[:2]
    same = estimates([nothing, *golden()])[0]
    assert (same.interval.low, same.interval.high, same.p) == (0, 0, 1)


def test_too_little_to_estimate_is_refused():
    for shape in ((1, 8), (3, 1)):
        with pytest.raises(ValueError, match="at least two"):
            estimates([np.zeros(shape)])


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(
    ("seed_deviation", "most"),
    [(0.0, 0.995), (SEED_DEVIATION, 0.98), (0.012, 0.98)],
    ids=["no seed variance", "usual", "large"],
)
def test_coverage_over_new_prompts_and_new_seeds(seeds, seed_deviation, most):
    """The 95 % interval of 14 cells holds the true effect in 93 to 98 % of 14 x 300 comparisons.

    Without any variance between seeds it holds it in up to 99 %: what varies with both seed and prompt is then all that
    the per-seed means vary by, and it is counted in both parts.
    """
    rng = np.random.default_rng([seeds, int(1000 * seed_deviation)])
    effect, held, count = 0.01, 0, 0
    for _ in range(300):
        for estimate in estimates(draw(rng, 14, seeds, seed_deviation, effect)):
            held += estimate.interval.low <= effect <= estimate.interval.high
            count += 1
    assert 0.93 <= held / count <= most


@pytest.mark.slow
def test_prompts_alone_would_not_cover():
    """What decided marks before: with seed variance, the interval over prompts misses every fourth effect."""
    rng = np.random.default_rng(3)
    held = 0
    for number in range(300):
        (difference,) = draw(rng, 1, 3, SEED_DEVIATION)
        pair = Pairs((0, 1, 2), difference[:, :, None], np.zeros((3, PROMPTS, 1)))
        interval = compare([pair], 400, seed=number)[0].these_models
        held += interval.low <= 0 <= interval.high
    assert held / 300 < 0.85


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("seed_deviation", [0.0, SEED_DEVIATION, 0.012], ids=["no seed variance", "usual", "large"])
def test_family_wise_error_of_fourteen_equal_cells(seeds, seed_deviation):
    """At most 6 % of tables of 14 equal recipes have a false mark; the baseline's own luck is in all of them."""
    rng = np.random.default_rng([7, seeds, int(1000 * seed_deviation)])
    tables, false = 600, 0
    for _ in range(tables):
        arms = [arm / 2**0.5 for arm in draw(rng, 15, seeds, seed_deviation)]
        family = [arm - arms[0] for arm in arms[1:]]
        false += any(mark.given for mark in marks([each.p for each in estimates(family)], HOLM, 14))
    assert false / tables <= 0.06
