"""The variances of differences between cells, and what finished sweeps show of them; nothing heavy is imported."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.data.rows import FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

REPLICATE = "replicate"
"""The axis whose cells are one recipe: their differences are no effects."""


@dataclass(frozen=True)
class Variances:
    """Of differences of two cells, means over images: between training seeds, between prompts, and of both together.

    In the square of the scorer's unit, each at least 0.
    """

    seeds: float
    prompts: float
    both: float


@dataclass(frozen=True)
class MeanSquares:
    """What was observed of one comparison (``analysis.data.rows.Estimate``).

    Attributes:
        seeds: variance (n - 1) over training seeds of the per-seed means.
        prompts: variance (n - 1) over prompts of the per-prompt means.
        both: residual mean square.
        seed_count, prompt_count: behind them, at least two each.
    """

    seeds: float
    prompts: float
    both: float
    seed_count: int
    prompt_count: int


@dataclass(frozen=True)
class Judged:
    """Scorer and split, as in the rows: variances under another judge or on other prompts say nothing."""

    scorer: str
    split: str


@dataclass(frozen=True)
class FinishedFamily:
    """The finished comparisons of a sweep with its baseline, under one judge on one split.

    Attributes:
        folder: ``SWEEP@EXPERIMENT``.
        observed: one for each comparison.
        images_per_prompt: behind the numbers.
        largest: (cell, absolute difference) of the largest difference between different recipes; None without one.
        outdated: the rows are of an earlier version of this project, without what is needed here.
    """

    folder: str
    observed: tuple[MeanSquares, ...]
    images_per_prompt: int
    largest: tuple[str, float] | None
    outdated: bool = False

    @property
    def degrees_of_freedom(self) -> int:
        """Of the seed variances of all comparisons."""
        return sum(each.seed_count - 1 for each in self.observed)


def finished_family(folder: Path, judged: Judged) -> FinishedFamily | None:
    """What a sweep's ``rows.json`` shows; None without the file, if it is damaged, or without a finished comparison.

    A comparison is finished if no seed of its two cells is missing, failed or diverged: if it can have a mark.
    """
    try:
        rows = json.loads((folder / FILE).read_text(encoding="utf-8"))
        finished = list(_finished(rows, judged))
        observed = tuple(_mean_squares(row) for row in finished if "residual_variance" in _estimate(row))
        largest = _largest(rows, finished)
        images = max((int(row["images_per_prompt"]) for row in finished), default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not finished:
        return None
    return FinishedFamily(folder.name, observed, images, largest, outdated=not observed)


def _finished(rows: list[Mapping[str, Any]], judged: Judged) -> Iterator[Mapping[str, Any]]:
    for row in rows:
        place = Judged(row["scorer"], row["split"])
        comparison = row["versus_baseline"]
        if place == judged and comparison and comparison["estimate"] and comparison["mark"]:
            yield row


def _estimate(row: Mapping[str, Any]) -> Mapping[str, Any]:
    estimate: Mapping[str, Any] = row["versus_baseline"]["estimate"]
    return estimate


def _mean_squares(row: Mapping[str, Any]) -> MeanSquares:
    estimate = _estimate(row)
    return MeanSquares(
        seeds=float(estimate["seed_variance"]),
        prompts=float(estimate["prompt_variance"]),
        both=float(estimate["residual_variance"]),
        seed_count=len(row["versus_baseline"]["by_seed"]),
        prompt_count=int(row["prompts"]),
    )


def _largest(rows: list[Mapping[str, Any]], finished: list[Mapping[str, Any]]) -> tuple[str, float] | None:
    baseline = {_recipe(row) for row in rows if row["is_baseline"]}
    differences = {
        str(row["cell"]): abs(float(row["versus_baseline"]["difference"]))
        for row in finished
        if _recipe(row) not in baseline
    }
    return max(differences.items(), key=lambda item: item[1], default=None)


def _recipe(row: Mapping[str, Any]) -> str:
    """A cell's axes without the replicate."""
    axes = json.loads(row["axes"])
    return json.dumps({name: value for name, value in axes.items() if name != REPLICATE}, sort_keys=True)
