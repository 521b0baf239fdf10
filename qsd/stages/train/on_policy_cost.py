"""What stage train costs under an on-policy method: its steps, the watched images, and the scale of an ensemble."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.errors import UserError
from qsd.rewards.scorers import ENSEMBLE
from qsd.stages.stage_spec import Compute, Work, arithmetic_of
from qsd.training.methods import method_of

if TYPE_CHECKING:
    from qsd.stages.stage_spec import Counts, ModelSizes, Values
    from qsd.training.methods import MethodPasses


@dataclass(frozen=True)
class _FurtherImages:
    """Images that are drawn whole beside the steps, by the deterministic sampler.

    Attributes:
        watched: of the watched prompts, drawn by the base model once and by the adapter at every validation.
        calibrating: of training prompts, by the base model, before the first step of an ensemble's training.
        drawings: how many times images are drawn.
    """

    watched: int
    calibrating: int
    drawings: int

    def passes(self, values: Values) -> int:
        """Of an image through the network."""
        return (self.watched + self.calibrating) * _passes_per_image(values)


def work(values: Values, _counts: Counts) -> Work:
    """Passes of the network over the samples of all steps, and over the images beside them."""
    comparable_key = (values["model.path"], values["model.resolution"], values["training.precision"], "on-policy")
    passes = values["training.steps"] * passes_of(values).forward_passes + _further(values).passes(values)
    return Work(passes, "images x denoiser passes", values["lora.rank"], comparable_key)


def compute(values: Values, passes: float, processes: int, sizes: ModelSizes) -> Compute:
    """What these passes and the scores between them ask of a machine.

    The processes share the steps alone: one of them draws the watched images while the others wait, and each puts an
    ensemble on its scale.
    """
    from qsd.rewards.ensemble import members_of

    step, further = passes_of(values), _further(values)
    share = passes / (values["training.steps"] * step.forward_passes + further.passes(values))
    steps, repeated = share * values["training.steps"], share * processes
    scoring = members_of(values["reward.model"], values["reward.members"])
    watching = [name for name in values["method.watchers"] or () if name != values["reward.model"]]
    # Decoding an image costs about what encoding it does.
    each = sizes.encoder_flop(values) + sum(sizes.scorer_flop(values, name) for name in scoring)
    judged = sum(sizes.scorer_flop(values, name) for name in watching)
    scored = steps * step.scored + repeated * (further.watched + further.calibrating)
    forward = steps * step.forward_passes + repeated * further.passes(values)
    flop = forward * sizes.denoiser_flop(values) + scored * each + repeated * further.watched * judged
    calls = steps * step.calls / processes + share * further.drawings * values["method.sampler_steps"]
    return Compute(flop, arithmetic_of(values["training.precision"]), calls)


def passes_of(values: Values) -> MethodPasses:
    """What an optimiser step of the method of a flat configuration costs."""
    passes = method_of(values).passes
    assert passes is not None, values["method.name"]
    return passes(values)


def _passes_per_image(values: Values) -> int:
    """Of an image that is drawn whole, guidance halves counted each."""
    return int(values["method.sampler_steps"]) * (2 if values["method.guidance_scale"] > 1 else 1)


def _further(values: Values) -> _FurtherImages:
    """The images beside the steps of a training that is not interrupted."""
    watched = values["method.watched_prompts"]
    # One more than there are validations: the base model's. A last one follows the last step.
    drawings = 1 - (-values["training.steps"] // values["training.validation_steps"]) if watched else 0
    calibrating = _calibration_prompts(values) if values["reward.model"] == ENSEMBLE else 0
    return _FurtherImages(watched * drawings, calibrating, drawings + bool(calibrating))


def _calibration_prompts(values: Values) -> int:
    """How many there are; as many as can be used where they cannot be read, as of an old record."""
    from qsd.training.onpolicy.prompts import CALIBRATION_PROMPTS, training_prompts

    try:
        return min(CALIBRATION_PROMPTS, len(training_prompts(values["method.prompts"], tuple(values["method.splits"]))))
    except UserError:
        return CALIBRATION_PROMPTS
