"""Stage evaluate: scores of the generated images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.stages.stage_spec import BatchField, Compute, Rehearsal, StageCost, StageSpec, Work, always

if TYPE_CHECKING:
    from qsd.stages.stage_spec import Counts, ModelSizes, Values


def _reads(_values: Values) -> tuple[str, ...]:
    return ("evaluation.scorers",)


def _extra(values: Values) -> dict[str, Any]:
    """Revisions of the code and weights of the scorers."""
    from qsd.rewards.revision import revision

    return {"revisions": {name: revision(name, values["reward.weights"]) for name in values["evaluation.scorers"]}}


def _work(values: Values, counts: Counts) -> Work:
    scorers = tuple(values["evaluation.scorers"])
    scored = counts.images(values) * len(scorers)
    return Work(scored, "images x scorers", scored, scorers)


def _compute(values: Values, scored: float, _processes: int, sizes: ModelSizes) -> Compute:
    scorers = values["evaluation.scorers"]
    flop = scored * sum(sizes.scorer_flop(values, name) for name in scorers) / len(scorers)
    return Compute(flop=flop, calls=scored / values["evaluation.batch_size"])


STAGE = StageSpec(
    entry="qsd.stages.evaluate.run:run",
    reads=_reads,
    inputs=("generate",),
    extra=_extra,
    wanted=always,
    cost=StageCost(_work, _compute),
    rehearsal=Rehearsal(shape=("evaluation.scorers", "evaluation.batch_size")),
    batch=BatchField("evaluation.batch_size"),
    in_tables=True,
)
