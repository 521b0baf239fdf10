"""How often a sweep repeats what it compares: training seeds, prompts, images, and the size of the family."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.grid.expand import BASE
from analysis.data.variances import Judged
from qsd.data.prompts import read_splits

if TYPE_CHECKING:
    from ablations.grid.expand import Cell
    from ablations.planning.plan import Plan


@dataclass(frozen=True)
class Replication:
    """What decides the power of a sweep, beside the variances.

    Attributes:
        judged: the primary scorer and split.
        images_per_prompt: whose scores are averaged.
        seeds: training seeds of each cell.
        prompts: of the primary split, as many as the sweep uses.
        prompts_available: in the file of prompts.
        comparisons: cells that are compared with the baseline; those of one evaluation count once.
    """

    judged: Judged
    images_per_prompt: int
    seeds: int
    prompts: int
    prompts_available: int
    comparisons: int


def replication(plan: Plan) -> Replication:
    """The replication of a plan.

    Raises:
        UserError: the prompts cannot be read (``qsd.data.prompts.read_splits``).
    """
    plan = plan.forecast
    scorer, split = plan.primary["scorer"], plan.primary["split"]
    baseline = next(cell for cell in plan.cells if cell.is_baseline)
    available = len(read_splits(Path(baseline.values["evaluation.prompts"]), [split]))
    most = baseline.values["evaluation.prompts_per_split"]
    return Replication(
        judged=Judged(scorer, split),
        images_per_prompt=int(baseline.values["generation.images_per_prompt"]),
        seeds=len(plan.sweep.seeds),
        prompts=available if most is None else min(most, available),
        prompts_available=available,
        comparisons=_comparisons(plan, scorer, split),
    )


def _comparisons(plan: Plan, scorer: str, split: str) -> int:
    """Different evaluations of cells that this judge scores on this split, without the baseline's."""
    evaluations: dict[str, list[str]] = {}
    baseline = ""
    for cell in plan.cells:
        if cell.role != BASE and _is_judged(cell, scorer, split):
            evaluations.setdefault(cell.name, []).append(cell.stages["evaluate"].key)
            baseline = cell.name if cell.is_baseline else baseline
    identities = {tuple(keys) for keys in evaluations.values()}
    return len(identities - {tuple(evaluations.get(baseline, ()))})


def _is_judged(cell: Cell, scorer: str, split: str) -> bool:
    return scorer in cell.values["evaluation.scorers"] and split in cell.values["evaluation.splits"]
