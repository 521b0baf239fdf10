"""Rows of the result table and their comparisons, and ``rows.json``, which holds them without loss.

The terminal and other programs read ``rows.json``; ``table.csv`` is an export. Nothing heavy is imported here, so that
a written table shows at once.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from analysis.data.estimate import Estimate, Interval, read_estimate, read_interval
from analysis.data.training import Trained
from qsd.evaluation.embedding_measures import MEASURES
from qsd.rewards.roles import is_judge

if TYPE_CHECKING:
    from pathlib import Path

FILE = "rows.json"
FEW_PROMPTS = 10
"""With fewer, neither the spread between prompts nor its distribution is known, and intervals are too short."""
TEXTURE = "texture"
"""The scorer whose rise is the symptom of reward hacking that tables name; it is no judge (``qsd.rewards.roles``)."""
COMPARED = (
    *("difference", "low", "high", "level", "p", "p_adjusted", "marked"),
    *("these_models_low", "these_models_high", "win_rate"),
)
"""Names of :meth:`Comparison.columns` for those who ask what was found, not how."""


@dataclass(frozen=True)
class Mark:
    """Whether a difference may be called one.

    Attributes:
        p_adjusted: p value corrected for the comparisons of the family.
        adjustment: ``Holm``, ``Benjamini-Hochberg``, or ``looks`` (``analysis.statistics.looks``).
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
            models. It says nothing about other training seeds and decides no mark. None with one prompt.
        by_seed: the difference of each training seed.
        seed_deviation: standard deviation of ``by_seed`` (n - 1), None with fewer than two seeds.
        win_rate: share of (seed, prompt, image) with the higher score, ties counted half, in [0, 1].
        win_rate_these_models: its interval over prompts; None with one.
        estimate: None with fewer than two seeds or prompts, and where a training diverged.
        mark: None where no mark can be given: without an estimate, or with seeds missing.
    """

    difference: float
    these_models: Interval | None
    by_seed: dict[int, float]
    seed_deviation: float | None
    win_rate: float
    win_rate_these_models: Interval | None
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

    def columns(self) -> dict[str, float | str | bool | None]:
        """Name -> value, as every table for programs has it; None where there is no estimate or no mark."""
        estimate, mark = self.estimate, self.mark
        return {
            "difference": self.difference,
            "low": estimate.interval.low if estimate else None,
            "high": estimate.interval.high if estimate else None,
            "level": estimate.level if estimate else None,
            "degrees_of_freedom": estimate.degrees_of_freedom if estimate else None,
            "p": estimate.p if estimate else None,
            "p_adjusted": mark.p_adjusted if mark else None,
            "adjustment": mark.adjustment if mark else None,
            "marked": self.marked,
            "seeds_disagree": estimate.seeds_disagree if estimate else None,
            "seed_deviation": self.seed_deviation,
            **_ends("these_models", self.these_models),
            "win_rate": self.win_rate,
            **_ends("win_rate_these_models", self.win_rate_these_models),
        }


@dataclass(frozen=True)
class CategoryDifference:
    """A cell minus the baseline on the prompts of one category of a split: exploratory under every scorer.

    Attributes:
        category: as the prompts file has it; empty for the prompts that have none.
        prompts: how many of the table's prompts are in it.
        comparison: over these prompts, its mark by Benjamini-Hochberg over cells and categories; None with fewer than
            ``FEW_PROMPTS`` prompts, of prompts without a category, and where nothing can be compared.
    """

    category: str
    prompts: int
    comparison: Comparison | None


@dataclass(frozen=True)
class Row:
    """One cell on one split under one scorer: a line of the result table, with the origin of every number.

    Attributes:
        primary: this scorer and split decide; the others are exploratory.
        conflicts: why the scorer is no independent judge of this cell; empty where it is one.
        mean: score, mean over seeds, prompts and images; None when no replicate is evaluated, or one diverged.
        versus_baseline: None for the baseline itself and the base model, and where nothing can be compared.
        versus_base: None for the base model, and where nothing can be compared.
        prompts: behind the numbers; images_left_out: had no finite score in some cell, so they count in none;
            left_out_by: those cells, and how many images each.
        seeds: training seeds in ``mean``; missing_seeds: planned and not evaluated yet ("base" for the base model).
        diverged_seeds: whose training diverged; failed_seeds: seed and reason of those that failed otherwise.
        planned_seeds: how many training seeds the sweep asks for.
        noise_floor: (x, y): of all y pairs of training seeds of one recipe, x differ over prompts alone; equal in all
            rows of a scorer and split.
        detectable: the true difference to the baseline that would be marked with a chance of 80 %, by the variances of
            these comparisons, with all planned seeds (``analysis.statistics.power``); equal in all rows of a scorer and
            split; None without an estimate.
        cell_ids: of all planned replicates.
        data_digest: key of the data stage; several are joined by spaces.
        trained: what the cell was trained on.
        look: where seeds are added in looks, the number of the last look at this cell's comparison with the baseline,
            0 before the first; None without looks, for the baseline and for the base model.
        stopped: why that comparison gets no more seeds (``analysis.data.looks.CellLook``); empty while it is open.
        margin: half width of what such a comparison counts as no difference; None where the sweep states none.
        categories: the difference to the baseline by category; empty where prompts have no different categories, for
            the baseline and for the base model.
    """

    cell: str
    role: str
    is_baseline: bool
    axes: str
    split: str
    scorer: str
    primary: bool
    revision: str
    unit: str
    conflicts: tuple[str, ...]
    mean: float | None
    versus_baseline: Comparison | None
    versus_base: Comparison | None
    prompts: int
    images_per_prompt: int
    images_left_out: int
    left_out_by: tuple[str, ...]
    seeds: tuple[int, ...]
    missing_seeds: tuple[str, ...]
    diverged_seeds: tuple[int, ...]
    failed_seeds: tuple[tuple[str, str], ...]
    planned_seeds: int
    noise_floor: tuple[int, int]
    detectable: float | None
    cell_ids: tuple[str, ...]
    git_commit: str
    data_digest: str
    trained: Trained
    look: int | None = None
    stopped: str = ""
    margin: float | None = None
    categories: tuple[CategoryDifference, ...] = ()

    @property
    def is_measure(self) -> bool:
        """The scorer is a measure on embeddings (``qsd.evaluation.embedding_measures``): no higher value is better."""
        return self.scorer in MEASURES

    @property
    def has_better_end(self) -> bool:
        """A higher value of the scorer is a better one, so that it is a judge."""
        return not self.is_measure and is_judge(self.scorer)

    @property
    def complete(self) -> bool:
        """Every planned replicate is in ``mean``."""
        return not (self.missing_seeds or self.diverged_seeds or self.failed_seeds)

    @property
    def diverged(self) -> bool:
        """A training of this cell diverged: that is its result, and no mean over the others stands for it."""
        return bool(self.diverged_seeds)


def to_json(rows: list[Row]) -> str:
    """All rows in their order, every number with all its digits; raises ValueError for a number that is not finite."""
    contents = [asdict(row) for row in rows]
    for content in contents:
        if not content["categories"]:  # tables without categories stay as they were before there were any
            del content["categories"]
    return json.dumps(contents, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_rows(path: Path) -> list[Row]:
    """The rows that :func:`to_json` wrote."""
    return [_row(content) for content in json.loads(path.read_text(encoding="utf-8"))]


def _row(content: dict[str, Any]) -> Row:
    tuples = {name: _tuples(value) for name, value in content.items() if isinstance(value, list)}
    objects = {
        "versus_baseline": _comparison(content["versus_baseline"]),
        "versus_base": _comparison(content["versus_base"]),
        "categories": tuple(_category(each) for each in content.get("categories", ())),
        "trained": Trained(**{name: _tuples(value) for name, value in content["trained"].items()}),
    }
    return Row(**{**content, **tuples, **objects})


def _category(content: dict[str, Any]) -> CategoryDifference:
    return CategoryDifference(**{**content, "comparison": _comparison(content["comparison"])})


def _comparison(content: dict[str, Any] | None) -> Comparison | None:
    if content is None:
        return None
    estimate, mark = content["estimate"], content["mark"]
    objects = {
        "these_models": read_interval(content["these_models"]),
        "win_rate_these_models": read_interval(content["win_rate_these_models"]),
        # JSON has no integer keys.
        "by_seed": {int(seed): value for seed, value in content["by_seed"].items()},
        "estimate": read_estimate(estimate),
        "mark": mark and Mark(**mark),
    }
    return Comparison(**{**content, **objects})


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    return {f"{name}_low": interval.low if interval else None, f"{name}_high": interval.high if interval else None}


def _tuples(value: Any) -> Any:
    """Lists of JSON, and the lists in them, as the tuples that they were."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
