"""What is said about a cell against a reference."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, in the unit of what it encloses."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Estimate:
    """What a difference would be with new prompts and new training seeds (``analysis.marks`` has the formulas).

    Attributes:
        interval: 95 % t interval of the difference, not corrected for the number of comparisons.
        degrees_of_freedom: of its t distribution (Satterthwaite).
        p: two-sided p value of no difference.
        seed_variance: variance between training seeds of the per-seed differences (n - 1), of this comparison alone.
        seeds_disagree: this variance is more than three times that of the family.
    """

    interval: Interval
    degrees_of_freedom: float
    p: float
    seed_variance: float
    seeds_disagree: bool


@dataclass(frozen=True)
class Mark:
    """Whether a difference may be called one.

    Attributes:
        p_adjusted: p value corrected for the comparisons of the family.
        adjustment: ``Holm`` or ``Benjamini-Hochberg``.
        given: p_adjusted is below 0.05.
    """

    p_adjusted: float
    adjustment: str
    given: bool


@dataclass(frozen=True)
class Comparison:
    """A cell minus a reference, paired by training seed (where the reference has seeds), prompt and image.

    Attributes:
        difference: mean difference of scores, in the scorer's unit.
        these_models: percentile bootstrap interval of ``difference`` over prompts: for new prompts and these trained
            models. It says nothing about other training seeds and decides no mark.
        by_seed: the difference of each training seed.
        seed_deviation: standard deviation of ``by_seed`` (n - 1), None with fewer than two seeds.
        win_rate: share of (seed, prompt, image) with the higher score, ties counted half, in [0, 1].
        win_rate_these_models: its interval over prompts.
        estimate: None with fewer than two seeds or prompts, and where a training diverged.
        mark: None where no mark can be given: without an estimate, or with seeds missing.
    """

    difference: float
    these_models: Interval
    by_seed: dict[int, float]
    seed_deviation: float | None
    win_rate: float
    win_rate_these_models: Interval
    estimate: Estimate | None = None
    mark: Mark | None = None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The training seeds that were compared."""
        return tuple(self.by_seed)

    @property
    def marked(self) -> bool:
        """Whether the difference may be called one."""
        return self.mark is not None and self.mark.given
