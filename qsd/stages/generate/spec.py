"""Stage generate: the images of a cell for the evaluation prompts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qsd.data.prompts import check_prompts
from qsd.models.folder_checks import check_texts
from qsd.models.local_checks import check_resolution, sampler_named
from qsd.stages.stage_spec import BatchField, Compute, Rehearsal, StageCost, StageSpec, Work, section

if TYPE_CHECKING:
    from qsd.stages.stage_spec import Counts, ModelSizes, Values


def _inputs(values: Values) -> tuple[str, ...]:
    """A training, except for the base model."""
    return ("train",) if values["adapter"] == "trained" else ()


def _reads(_values: Values) -> tuple[str, ...]:
    prompts = ("evaluation.prompts", "evaluation.splits", "evaluation.prompts_per_split")
    return (*section("model"), "adapter", *section("generation"), *prompts)


def _same(values: Values) -> dict[str, Any]:
    """The sampler under one name, and the precision of decoding as that of the VAE, which does nothing else here.

    Raises:
        UserError: a sampler that does not fit the model.
    """
    own = values["generation.vae_precision"]
    return {
        "generation.sampler": sampler_named(values["model.path"], values["generation.sampler"]),
        "generation.vae_precision": None,
        "model.vae_precision": values["model.vae_precision"] if own is None else own,
    }


def _extra(values: Values) -> dict[str, Any]:
    """The first version encoded captions in bf16 where the network computes in it.

    The prompts are read here, so that a mistake in them stops the plan and not the first cell after its training; and
    so is what the model's files say of its resolutions.

    Raises:
        UserError: as ``qsd.data.prompts.read_splits``, or a resolution that the model cannot have.
    """
    check_texts(values["model.path"])
    check_resolution(values["model.path"], values["model.resolution"])
    splits, most = tuple(values["evaluation.splits"]), values["evaluation.prompts_per_split"]
    check_prompts(values["evaluation.prompts"], splits, most)
    return {"generation.bf16.version": 2} if values["generation.precision"] == "bf16" else {}


def _work(values: Values, counts: Counts) -> Work:
    images = counts.images(values)
    passes = 1 if values["generation.guidance_scale"] == 1 else 2  # guidance also needs the empty caption
    comparable_key = (values["model.path"], values["model.resolution"], values["generation.precision"])
    return Work(images * values["generation.steps"] * passes, "images x denoiser passes", images, comparable_key)


def _compute(values: Values, passes: float, _processes: int, sizes: ModelSizes) -> Compute:
    return Compute(
        flop=passes * sizes.denoiser_flop(values),
        precision=values["generation.precision"],
        calls=passes / values["generation.batch_size"],
    )


def _size(values: Values, images: float, sizes: ModelSizes) -> float:
    return images * sizes.image_bytes(values)


def _enough(values: Values) -> dict[str, int]:
    """Two full batches show the memory and the time of any number of them."""
    images = 2 * values["generation.batch_size"]
    return {
        "generation.steps": 2,
        "generation.images_per_prompt": 1,
        "evaluation.prompts_per_split": math.ceil(images / len(values["evaluation.splits"])),
    }


STAGE = StageSpec(
    help="Generate images for the evaluation prompts.",
    entry="qsd.stages.generate.run:run",
    reads=_reads,
    same=_same,
    inputs=("train",),
    chosen_inputs=_inputs,
    extra=_extra,
    execution=lambda _: ("generation.batch_size",),
    cost=StageCost(_work, _compute, _size),
    rehearsal=Rehearsal(
        shape=("model.path", "model.resolution", "adapter", "generation.guidance_scale", "generation.batch_size"),
        enough=_enough,
    ),
    batch=BatchField("generation.batch_size"),
    waits_for_canary=True,
    in_tables=True,
)
