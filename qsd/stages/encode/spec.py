"""Stage encode: latents and text embeddings of pairs, computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.stages.stage_spec import BatchField, Compute, Rehearsal, StageCost, StageSpec, Work

if TYPE_CHECKING:
    from qsd.stages.stage_spec import Counts, ModelSizes, Values


def _inputs(values: Values) -> tuple[str, ...]:
    """The selection too, where only what it kept is encoded."""
    return ("data", "select") if values["encode.scope"] == "selection" else ("data",)


def _reads(_values: Values) -> tuple[str, ...]:
    return ("model.path", "model.resolution", "model.vae_precision", "encode.scope", "training.flip")


def _work(values: Values, counts: Counts) -> Work:
    pairs = counts.pairs(values) if values["encode.scope"] == "dataset" else counts.selected(values)
    comparable_key = (values["model.path"], values["model.resolution"], values["model.vae_precision"])
    return Work(pairs, "pairs", pairs, comparable_key)


def _compute(values: Values, pairs: float, _processes: int, sizes: ModelSizes) -> Compute:
    return Compute(
        flop=2 * pairs * sizes.encoder_flop(values),
        calls=2 * pairs / values["encode.batch_size"],
        decoded_images=2 * pairs,
    )


def _size(values: Values, pairs: float, sizes: ModelSizes) -> float:
    """In fp32: mean and deviation of both latents of a pair, and of their mirror images, and the caption."""
    variants = 2 if values["training.flip"] else 1
    return pairs * 4 * (2 * variants * 2 * sizes.latent_numbers(values) + sizes.text_numbers(values))


def _enough(values: Values) -> dict[str, int]:
    """A full batch."""
    return {"data.max_rows": values["encode.batch_size"]}


STAGE = StageSpec(
    help="Compute latents and text embeddings once.",
    entry="qsd.stages.encode.run:run",
    reads=_reads,
    inputs=("data", "select"),
    chosen_inputs=_inputs,
    execution=lambda _: ("encode.batch_size",),
    version=2,
    cost=StageCost(_work, _compute, _size),
    rehearsal=Rehearsal(shape=("model.path", "model.resolution", "encode.batch_size", "training.flip"), enough=_enough),
    batch=BatchField("encode.batch_size"),
)
