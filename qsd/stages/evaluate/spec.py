"""Stage evaluate: scores of the generated images, and measures of what differs between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.errors import UserError
from qsd.source import source_digest
from qsd.stages.stage_spec import BatchField, Compute, Rehearsal, StageCost, StageSpec, Work, always

if TYPE_CHECKING:
    from qsd.stages.stage_spec import Counts, ModelSizes, Values


_MEASURES = "qsd.evaluation.embedding_measures"
_EMBEDDING_BYTES = 4 * 1024
"""Of one image: the published CLIPs have 768 or 1,024 numbers."""


def _reads(_values: Values) -> tuple[str, ...]:
    return ("evaluation.scorers", "evaluation.embedder")


def _extra(values: Values) -> dict[str, Any]:
    """Revisions of the code and weights of the scorers, and of the measures on embeddings where there are any.

    Raises:
        UserError: a reward model without weights, or an embedder where every prompt has one image.
    """
    from qsd.rewards.revision import revision

    weights, embedder = values["reward.weights"], values["evaluation.embedder"]
    revisions = {"revisions": {name: revision(name, weights) for name in values["evaluation.scorers"]}}
    if embedder is None:
        return revisions
    if values["generation.images_per_prompt"] < 2:
        raise UserError(
            f"evaluation.embedder is {embedder!r}, which compares the images of a prompt, but "
            "generation.images_per_prompt is 1; set it to 2 or more, or leave evaluation.embedder out"
        )
    return {**revisions, "measures": measures_revision(embedder, weights)}


def measures_revision(embedder: str, weights: str) -> str:
    """The revision of the measures: that of the embedder and the digest of their formulas.

    Raises:
        UserError: the embedder has no weights below the folder ``weights``.
    """
    from qsd.rewards.revision import revision

    return f"{revision(embedder, weights)}-{source_digest(_MEASURES)}"


def _models(values: Values) -> tuple[str, ...]:
    """The reward models that see every image; one that scores and embeds does so twice."""
    embedder = values["evaluation.embedder"]
    return (*values["evaluation.scorers"], *([] if embedder is None else [embedder]))


def _work(values: Values, counts: Counts) -> Work:
    models = _models(values)
    scored = counts.images(values) * len(models)
    return Work(scored, "images x scorers", scored, models)


def _compute(values: Values, scored: float, _processes: int, sizes: ModelSizes) -> Compute:
    models = _models(values)
    flop = scored * sum(sizes.scorer_flop(values, name) for name in models) / len(models)
    return Compute(flop=flop, calls=scored / values["evaluation.batch_size"])


def _size(values: Values, scored: float, _sizes: ModelSizes) -> float:
    images = scored / len(_models(values))
    return 100 * scored + (0 if values["evaluation.embedder"] is None else _EMBEDDING_BYTES * images)


def _enough(values: Values) -> dict[str, int]:
    """As many images of a prompt as can be compared."""
    return {} if values["evaluation.embedder"] is None else {"generation.images_per_prompt": 2}


STAGE = StageSpec(
    help="Score the generated images.",
    entry="qsd.stages.evaluate.run:run",
    reads=_reads,
    inputs=("generate",),
    extra=_extra,
    execution=lambda _: ("evaluation.batch_size", "reward.workers"),
    wanted=always,
    cost=StageCost(_work, _compute, _size),
    rehearsal=Rehearsal(
        shape=("evaluation.scorers", "evaluation.embedder", "evaluation.batch_size"),
        enough=_enough,
    ),
    batch=BatchField("evaluation.batch_size"),
    in_tables=True,
)
