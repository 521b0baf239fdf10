"""What stage train reads and refuses under an on-policy method: prompts and a reward, no pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.errors import UserError
from qsd.losses import REGISTRY as LOSSES
from qsd.models.local_checks import check_guidance
from qsd.rewards.scorers import ENSEMBLE
from qsd.rewards.scorers import REGISTRY as SCORERS
from qsd.stages.stage_spec import OF_TRAINING, BatchField, member_code
from qsd.stages.train.on_policy_checks import (
    check_members_fit,
    check_needs_no_pairs,
    check_noise,
    check_steps,
    check_watched,
)
from qsd.stages.train.on_policy_cost import compute, passes_of, work
from qsd.training.methods import REGISTRY, method_of, setting

__all__ = ["BATCHES", "ITEMS", "compute", "extra", "reads", "same", "unused", "work"]

if TYPE_CHECKING:
    from qsd.stages.stage_spec import Values

ITEMS = "method.prompts_per_step"
"""What the processes of a step share."""

EXECUTION = (*OF_TRAINING, "method.sampling_batch", "reward.batch_size")
"""What changes how it runs."""

_TRAINING = (
    "steps",
    "learning_rate",
    "schedule",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "precision",
    "ema",
)
"""The fields of the section ``training`` that have a meaning without pairs."""


def unused(values: Values) -> dict[str, str]:
    """What pairs need and changes nothing of its own accord; experiments give it for their cells on pairs."""
    method = values["method.name"]
    no_loss = {} if method_of(values).uses_loss else {"loss.name": f"method {method} has a loss of its own"}
    return {
        **no_loss,
        "loss.beta": "an on-policy training has method.beta",
        "training.pairs_per_step": "an on-policy training has method.prompts_per_step",
        "training.epochs": "an on-policy training has training.steps",
        "training.reference_errors": "an on-policy training asks the reference once for each batch of its own samples",
    }


def reads(values: Values) -> tuple[str, ...]:
    """Method and loss, the reward, the training without what pairs need, and the VAE, which decodes what is scored.

    The loss has the β of the method (``StepLoss``), and neither is read where the loss has none.
    """
    method = method_of(values)
    idle, loss = method.idle(values), tuple[str, ...]()
    if method.uses_loss:
        fields = LOSSES.get(values["loss.name"]).fields
        loss = ("loss.name", *(f"loss.{name}" for name in fields if name != "beta"))
        idle |= set() if "beta" in fields else {"beta"}
    own = (f"method.{name}" for name in method.fields if name not in idle)
    of_ensemble = ("reward.members", "reward.combine") if values["reward.model"] == ENSEMBLE else ()
    watched = ("evaluation.prompts", "generation.seed", "training.validation_steps")
    return (
        *own,
        *loss,
        "model.vae_precision",
        "reward.model",
        *of_ensemble,
        "reward.precision",
        *(watched if values["method.watched_prompts"] else ()),
        *(f"training.{name}" for name in _TRAINING),
    )


def same(values: Values) -> dict[str, Any]:
    """The method's own defaults in place of null, the watchers without the reward, and what else means the same."""
    method = method_of(values)
    own = {name: setting(values, name) for name in method.defaults} | method.same(values)
    others = [name for name in values["method.watchers"] or () if name != values["reward.model"]]
    return {f"method.{name}": value for name, value in {**own, "watchers": others or None}.items()}


def extra(values: Values) -> dict[str, Any]:
    """The code of the method, and the revisions of what scores.

    Raises:
        UserError: training prompts that are also watched or evaluated, watched prompts that are not there, more trained
            or skipped steps than there are, trained steps without noise, a loss, a reward or a setting of training on
            pairs that the method cannot use, classifier-free guidance of a network that takes guidance as an input, or
            a reward model without weights or without scores of new images.
    """
    from qsd.rewards.ensemble import members_of
    from qsd.rewards.revision import revision
    from qsd.training.onpolicy.prompts import check_apart

    check_needs_no_pairs(values)
    check_steps(values)
    check_watched(values)
    check_guidance(values["model.path"], values["method.guidance_scale"])
    check_apart(values)
    check_noise(values)
    names = members_of(values["reward.model"], values["reward.members"])
    check_members_fit(values, method_of(values), names)
    watchers = (values["method.watchers"] or []) if values["method.watched_prompts"] else []
    scoring = tuple(dict.fromkeys((*names, *watchers)))
    for name in scoring:
        if not SCORERS.get(name).scores_new_images:
            field = "method.watchers" if name not in names else "reward.model" if names == [name] else "reward.members"
            raise UserError(
                f"{field} {name}: it has scores of stored images only, and method {values['method.name']} makes new "
                "ones; use another reward model"
            )
    revisions = {name: revision(name, values["reward.weights"]) for name in scoring}
    code = method_of(values).code()
    return {**member_code("method", REGISTRY, values["method.name"]), "method.code": code, "revisions": revisions}


def _sampled(values: Values) -> int:
    """Images that go through the network at a time while it samples, guidance halves counted each."""
    return _scored(values) * (2 if values["method.guidance_scale"] > 1 else 1)


def _scored(values: Values) -> int:
    """Images that are scored at a time: those of a sampler step, or those of the watched prompts."""
    return max(passes_of(values).together, int(values["method.watched_prompts"]))


BATCHES = (
    BatchField("training.micro_batch"),
    BatchField("method.sampling_batch", at_most=_sampled),
    BatchField("reward.batch_size", at_most=_scored),
)
"""What is halved when memory runs out: which of the three it was cannot be seen."""
