"""What stage train reads and costs under the method of all off-policy losses."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

from qsd.losses import REGISTRY
from qsd.losses._annotators import Settings as AnnotatorSettings
from qsd.stages.stage_spec import OF_TRAINING, BatchField, Compute, Work, arithmetic_of, section
from qsd.training.loss_cost import Passes, passes_of
from qsd.training.offpolicy.beta_schedule import schedule_fields
from qsd.training.offpolicy.folds import judged_count, trained_share

if TYPE_CHECKING:
    from qsd.stages.stage_spec import Counts, ModelSizes, Values

ITEMS = "training.pairs_per_step"
"""What the processes of a step share."""

BATCHES = (BatchField("training.micro_batch", at_most="training.pairs_per_step"),)
"""What is halved when memory runs out."""

EXECUTION = (*OF_TRAINING, "training.reference_errors")
"""What changes how it runs."""


def reads(values: Values) -> tuple[str, ...]:
    """The loss, who labelled the pairs, and the training without the budget that is not in force."""
    member = REGISTRY.get(values["loss.name"])
    loss = ("loss.name", *(f"loss.{name}" for name in member.fields), *schedule_fields(member, values))
    unread = unused(values)
    return (*loss, "data.labels", *(name for name in section("training") if name not in unread))


def unused(values: Values) -> dict[str, str]:
    """The budget that is not in force, and the draws of a detection where none follows."""
    budget = values["training.budget"]
    fields = {"training.epochs" if budget == "steps" else "training.steps": f"training.budget is {budget}"}
    if not _detects(values):
        fields["training.detection_draws"] = "no labels are flipped and the loss has no annotators, or all are replaced"
    return fields


def _detects(values: Values) -> bool:
    """Whether flipped labels are searched in after the training."""
    annotated = issubclass(REGISTRY.get(values["loss.name"]).settings, AnnotatorSettings)
    return values["data.relabel"] == "none" and (values["data.flip_fraction"] > 0 or annotated)


def same(_values: Values) -> dict[str, Any]:
    """Nothing: every value of a field that is read has an effect of its own."""
    return {}


def extra(_values: Values) -> dict[str, Any]:
    """Nothing: the stage's version covers the method's code."""
    return {}


def work(values: Values, counts: Counts) -> Work:
    """Passes of the network over the pairs of all steps, and over those that flipped labels are searched in."""
    comparable_key = (values["model.path"], values["model.resolution"], values["training.precision"])
    per_step = values["training.pairs_per_step"]
    if values["training.budget"] == "steps":
        pairs = values["training.steps"] * per_step
    else:
        trained = counts.selected(values) * trained_share(values.get("training.held_out_fold"))
        pairs = max(per_step, values["training.epochs"] * trained)
    passes = pairs * passes_per_pair(values).forward_passes + _judging_passes(values, counts)
    return Work(passes, "images x denoiser passes", values["lora.rank"], comparable_key)


def _judging_passes(values: Values, counts: Counts) -> float:
    """Forward passes of an image by the model, the base model and each annotator beside the current model."""
    if not _detects(values):
        return 0.0
    member = REGISTRY.get(values["loss.name"])
    annotated = issubclass(member.settings, AnnotatorSettings)
    models = 2 + (len(values["loss.adaptive_decays"]) if annotated else 0)
    # Records of earlier trainings lack these fields.
    pairs = judged_count(counts.selected(values), values.get("training.held_out_fold"))
    draws: int = values.get("training.detection_draws", 1)
    return 2 * models * pairs * draws


def passes_per_pair(values: Values) -> Passes:
    """What a pair costs under the loss of a flat configuration."""
    loss = values["loss.name"]
    read = (values[f"loss.{name}"] for name in REGISTRY.get(loss).fields)
    settings = tuple(tuple(value) if isinstance(value, list) else value for value in read)
    return _passes(loss, settings, values["training.pairs_per_step"] <= BATCHES[0].effective(values))


@cache
def _passes(loss: str, settings: tuple[Any, ...], whole_steps: bool) -> Passes:
    """Remembered, because thousands of cells have a handful of losses between them."""
    member = REGISTRY.get(loss)
    return passes_of(member, member.settings(**dict(zip(member.fields, settings, strict=True))), whole_steps)


def compute(values: Values, passes: float, processes: int, sizes: ModelSizes) -> Compute:
    """What these passes ask of a machine."""
    of_pair, per_step = passes_per_pair(values), values["training.pairs_per_step"]
    steps = passes / (of_pair.forward_passes * per_step)
    batches = steps * math.ceil(per_step / (BATCHES[0].effective(values) * processes))
    flop = passes * sizes.denoiser_flop(values)
    return Compute(flop, arithmetic_of(values["training.precision"]), of_pair.calls * batches)
