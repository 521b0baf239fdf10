"""What is said about a cell against a reference."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A 95 % percentile bootstrap interval, in the unit of what it encloses."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Comparison:
    """A cell minus a reference, paired by training seed (where the reference has seeds), prompt and image.

    Attributes:
        difference: mean difference of scores, in the scorer's unit.
        over_prompts: interval of ``difference`` for new prompts and these trained models.
        over_seeds_and_prompts: interval for new prompts and new training seeds; None with fewer than two seeds.
        by_seed: the difference of each training seed.
        seed_deviation: standard deviation of ``by_seed`` (n - 1), None with fewer than two seeds.
        win_rate: share of (seed, prompt, image) with the higher score, ties counted half, in [0, 1].
        win_rate_over_prompts: its interval over prompts.
    """

    difference: float
    over_prompts: Interval
    over_seeds_and_prompts: Interval | None
    by_seed: dict[int, float]
    seed_deviation: float | None
    win_rate: float
    win_rate_over_prompts: Interval

    @property
    def seeds(self) -> tuple[int, ...]:
        """The training seeds that were compared."""
        return tuple(self.by_seed)
