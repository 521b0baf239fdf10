"""Stage select: Q of every pair, and the pairs that are trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.quality.metrics import REGISTRY as METRICS
from qsd.quality.normalizations import REGISTRY as NORMALIZATIONS
from qsd.selection.strategies import REGISTRY as STRATEGIES
from qsd.stages.stage_spec import Rehearsal, StageCost, StageSpec, Work, member_code

if TYPE_CHECKING:
    from qsd.stages.stage_spec import Counts, Values

LABEL_CHANGES = ("data.flip_fraction", "data.relabel")
"""What this stage makes of the labels: cells that differ in it share images and scores."""
_REHEARSED_PAIRS = 8
_REHEARSED_CLUSTERS = 2


def _uses_quality(values: Values) -> bool:
    return STRATEGIES.get(values["selection.strategy"]).uses_quality


def uses_scores(values: Values) -> bool:
    """Whether scores rank the pairs."""
    return _uses_quality(values) and METRICS.get(values["quality.metric"]).uses_scores


def _inputs(values: Values) -> tuple[str, ...]:
    """Scores only where they rank pairs or measure or make labels: other cells need not wait for a reward model."""
    changes_labels = values["data.flip_fraction"] > 0 or values["data.relabel"] != "none"
    return ("data", "score") if uses_scores(values) or changes_labels else ("data",)


def _reads(values: Values) -> tuple[str, ...]:
    """What the strategy and the metric read, and the seed if either draws random numbers."""
    strategy = STRATEGIES.get(values["selection.strategy"])
    unread = "count" if values["selection.count"] is None else "fraction"
    names = ["selection.strategy", *(f"selection.{name}" for name in strategy.fields if name != unread)]
    stochastic = strategy.stochastic
    if strategy.uses_quality:
        names.append("quality.metric")
        stochastic |= METRICS.get(values["quality.metric"]).stochastic
    if uses_scores(values):
        names.append("quality.normalization")
    names += LABEL_CHANGES
    return (*names, "seed") if stochastic else tuple(names)


def _extra(values: Values) -> dict[str, Any]:
    """The code of the members that take part."""
    code = member_code("selection.strategy", STRATEGIES, values["selection.strategy"])
    if _uses_quality(values):
        code |= member_code("quality.metric", METRICS, values["quality.metric"])
    if uses_scores(values):
        code |= member_code("quality.normalization", NORMALIZATIONS, values["quality.normalization"])
    return code


def _work(values: Values, counts: Counts) -> Work:
    pairs = counts.pairs(values)
    return Work(pairs, "pairs", pairs)


def _enough(values: Values) -> dict[str, int]:
    """So many rows that a share of them leaves some pairs, and so few pairs and clusters that they suffice."""
    enough = {"data.max_rows": round(100 * _REHEARSED_PAIRS / values["selection.fraction"])}
    if values["selection.count"] is not None:
        enough["selection.count"] = _REHEARSED_PAIRS
    if values["selection.prompt_clusters"] is not None:
        enough["selection.prompt_clusters"] = _REHEARSED_CLUSTERS
    return enough


STAGE = StageSpec(
    help="Rank the pairs by quality and select some.",
    entry="qsd.stages.select.run:run",
    reads=_reads,
    inputs=("data", "score"),
    chosen_inputs=_inputs,
    extra=_extra,
    execution=lambda _: (),
    version=2,
    cost=StageCost(_work),
    rehearsal=Rehearsal(enough=_enough),
    uses_gpu=False,
    in_tables=True,
    counts={"selected": "kept"},
)
