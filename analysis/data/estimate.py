"""Intervals and estimates of differences, as plain values that tables and decisions share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Interval:
    """A confidence interval (95 % where nothing else is said), in the unit of what it encloses."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Estimate:
    """What a difference would be with new prompts and new training seeds; formulas: ``analysis.statistics.marks``.

    Attributes:
        interval: t interval of the difference; 95 %, not corrected for the number of comparisons, unless ``level`` says
            otherwise.
        degrees_of_freedom: of its t distribution (Satterthwaite).
        p: two-sided p value of no difference.
        seed_variance: variance between training seeds of the per-seed differences (n - 1), of this comparison alone.
        prompt_variance: variance between prompts of the per-prompt differences, means over seeds (n - 1).
        residual_variance: residual mean square of the differences by seed and prompt. The three are what
            ``analysis.statistics.power`` plans with.
        seeds_disagree: the variance between seeds is more than three times that of the family.
        level: the interval encloses with 1 - ``level``; that of a look on the primary scorer of a sweep with looks
            (``analysis.statistics.looks``).
    """

    interval: Interval
    degrees_of_freedom: float
    p: float
    seed_variance: float
    prompt_variance: float
    residual_variance: float
    seeds_disagree: bool
    level: float = 0.05


def read_interval(content: Mapping[str, float] | None) -> Interval | None:
    """The interval that ``dataclasses.asdict`` made plain; None of None."""
    return None if content is None else Interval(**content)


def read_estimate(content: Mapping[str, Any] | None) -> Estimate | None:
    """The estimate that ``dataclasses.asdict`` made plain; None of None."""
    return None if content is None else Estimate(**{**content, "interval": Interval(**content["interval"])})
