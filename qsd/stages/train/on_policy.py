"""What stage train reads and costs under an on-policy method: prompts and a reward, no pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.errors import UserError
from qsd.rewards.scorers import ENSEMBLE
from qsd.rewards.scorers import REGISTRY as SCORERS
from qsd.stages.stage_spec import Compute, Work, member_code
from qsd.stages.train.on_policy_checks import check_members_fit
from qsd.training.methods import REGISTRY, method_of

if TYPE_CHECKING:
    from qsd.stages.stage_spec import Counts, ModelSizes, Values
    from qsd.training.methods import MethodPasses

ITEMS = "method.prompts_per_step"
"""What the processes of a step share."""

_TRAINING = (
    "steps",
    "learning_rate",
    "schedule",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "precision",
    "ema",
    "validation_steps",
)
"""The fields of the section ``training`` that have a meaning without pairs."""


def reads(values: Values) -> tuple[str, ...]:
    """The reward, the training without what pairs need, and the VAE, which decodes what the reward scores."""
    of_ensemble = ("reward.members", "reward.combine") if values["reward.model"] == ENSEMBLE else ()
    watched = ("evaluation.prompts", "generation.seed") if values["method.watched_prompts"] else ()
    training = (f"training.{name}" for name in _TRAINING)
    return ("model.vae_precision", "reward.model", *of_ensemble, "reward.precision", *watched, *training)


def extra(values: Values) -> dict[str, Any]:
    """The code of the method, and the revisions of what scores.

    Raises:
        UserError: training prompts that are also watched or evaluated, more trained steps than there are, a loss or a
            reward that the method cannot use, or a reward model without weights or without scores of new images.
    """
    from qsd.rewards.ensemble import members_of
    from qsd.rewards.revision import revision
    from qsd.training.onpolicy.prompts import check_apart

    check_apart(values)
    _passes(values)  # refuses an impossible placement of the trained steps
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


def work(values: Values, _counts: Counts) -> Work:
    """Passes of the network over the samples of all steps."""
    comparable_key = (values["model.path"], values["model.resolution"], values["training.precision"], "on-policy")
    passes = values["training.steps"] * _passes(values).forward_passes
    return Work(passes, "images x denoiser passes", values["lora.rank"], comparable_key)


def compute(values: Values, passes: float, processes: int, sizes: ModelSizes) -> Compute:
    """What these passes and the scores between them ask of a machine."""
    from qsd.rewards.ensemble import members_of

    step = _passes(values)
    steps = passes / step.forward_passes
    names = members_of(values["reward.model"], values["reward.members"])
    # Decoding an image costs about what encoding it does.
    each = sizes.encoder_flop(values) + sum(sizes.scorer_flop(values, name) for name in names)
    flop = passes * sizes.denoiser_flop(values) + steps * step.scored * each
    return Compute(flop, values["training.precision"], steps * step.calls / processes)


def _passes(values: Values) -> MethodPasses:
    passes = method_of(values).passes
    assert passes is not None, values["method.name"]
    return passes(values)
