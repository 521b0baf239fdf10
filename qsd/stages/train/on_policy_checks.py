"""What an on-policy method cannot use, found while planning: settings of pairs, losses, rewards, watched prompts.

Training refuses the same losses and rewards (``qsd.training.onpolicy``), but only when the cell's turn comes, which may
be hours later.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qsd.config.check import schema_fields
from qsd.config.once_per_process import OncePerProcess
from qsd.data.prompts import read_splits
from qsd.errors import UserError
from qsd.losses import REGISTRY as LOSSES
from qsd.models.local_checks import last_step_brings_noise
from qsd.rewards.scorers import ENSEMBLE
from qsd.rewards.scorers import REGISTRY as SCORERS
from qsd.training.methods import setting
from qsd.training.onpolicy.placement import trained_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qsd.stages.stage_spec import Values
    from qsd.training.methods import MethodSpec


OF_PAIRS = {
    "lora.dropout": "an on-policy training trains the very policy that drew its samples",
    "loss.beta_schedule": "an on-policy training has method.beta",
    "training.budget": "an on-policy training has training.steps",
    "training.caption_dropout": "an on-policy training samples every prompt with its caption",
    "training.flip": "an on-policy training has no images of pairs",
    "training.held_out_fold": "an on-policy training has no pairs to hold out",
    "training.noise_law": "an on-policy training visits the times of its sampler",
    "training.noise_shift": "an on-policy training visits the times of its sampler",
    "training.validation_pairs": "an on-policy training watches prompts (method.watched_prompts)",
}
"""Fields whose values other than the default mean something for pairs only -> why."""


def check_needs_no_pairs(values: Values) -> None:
    """Refuse settings that ask for something that there is only with pairs.

    Raises:
        UserError: a field of ``OF_PAIRS`` is not its default.
    """
    for name, why in OF_PAIRS.items():
        value, usual = values[name], schema_fields()[name].default
        if value != usual:
            raise UserError(
                f"{name} is {value!r}, which needs pairs, and method {values['method.name']} has none: {why}; leave it "
                f"out, or, for a sweep with cells on pairs, zip {name} with method.name and give these cells {usual!r}"
            )


def check_steps(values: Values) -> None:
    """Refuse settings that leave no step of the sampler to train.

    Raises:
        UserError: all of them are skipped.
    """
    steps, skipped = values["method.sampler_steps"], setting(values, "skipped_steps")
    if skipped >= steps:
        raise UserError(
            f"method.skipped_steps is {skipped}, which is all of the {steps} sampler steps (method.sampler_steps), so "
            "none is left to train; skip fewer"
        )


def check_noise(values: Values) -> None:
    """Refuse trained steps of which there is one outcome each: the last step alone, of a model without noise there.

    Raises:
        UserError: there is nothing to train, or more steps are to be trained than there are.
    """
    steps, placement = values["method.sampler_steps"], values["method.placement"]
    count, skipped = setting(values, "trained_steps"), setting(values, "skipped_steps")
    chosen = trained_steps(steps, count, skipped, placement)
    if chosen != [steps - 1] or last_step_brings_noise(values["model.path"], steps):
        return
    if skipped == steps - 1:
        cause = f"method.skipped_steps is {skipped} of {steps} steps"
    elif placement == "last":
        cause = f"method.placement is {placement} and method.trained_steps {count}"
    else:
        cause = f"method.trained_steps is {count} of {steps} steps"
    raise UserError(
        f"{cause}, so that the sampler's last step alone is trained, which brings no noise with model.path "
        f"{values['model.path']}: there is one outcome and none to prefer; train more steps, or earlier ones"
    )


def check_watched(values: Values) -> None:
    """Refuse watched prompts that are not there, and one that is alone.

    Raises:
        UserError: no such split, or fewer than two prompts in it.
    """
    asked, split = values["method.watched_prompts"], values["method.watched_split"]
    if asked == 1:
        raise UserError(
            "method.watched_prompts is 1, but the change of a score has a standard error over two or more prompts; "
            "watch more, or 0 for none"
        )
    if asked and _count(values["evaluation.prompts"], split, asked) < 2:
        raise UserError(
            f"method.watched_split {split!r} has one prompt, but the change of a score has a standard error over two "
            "or more; watch another split, or none (method.watched_prompts: 0)"
        )


@OncePerProcess
def _count(path: str, split: str, most: int) -> int:
    return len(read_splits(Path(path), [split], most, chosen_by="method.watched_split"))


def check_members_fit(values: Values, method: MethodSpec, rewards: Sequence[str]) -> None:
    """Refuse members that the method cannot use.

    Args:
        values: a flat configuration.
        method: the one that it names.
        rewards: the reward models that score.

    Raises:
        UserError: a loss that reads more than a step has, an ensemble that ranks within a data set, or guidance by a
            reward model without gradient.
    """
    name, is_ensemble = values["method.name"], values["reward.model"] == ENSEMBLE
    if method.uses_loss and values["loss.name"] not in (usable := step_losses()):
        raise UserError(
            f"loss.name {values['loss.name']!r} reads more of a pair than method {name} has of a sampler step; use one "
            f"of {', '.join(usable)}"
        )
    if is_ensemble and values["reward.combine"] != "z_score":
        raise UserError(
            f"reward.combine is {values['reward.combine']!r}, which ranks images within a data set, and method {name} "
            "has none; use z_score"
        )
    without = [reward for reward in rewards if not SCORERS.get(reward).differentiable]
    if "guide_from" in method.fields and without:
        raise UserError(
            f"{'reward.members' if is_ensemble else 'reward.model'}: {', '.join(without)} "
            f"{'have' if len(without) > 1 else 'has'} no gradient in the pixels, which the guidance of method {name} "
            "needs; use method tailorpo, or another reward"
        )


def step_losses() -> list[str]:
    """Losses that are a function of d alone, pair by pair: they compare with a reference and couple no pairs."""
    losses = {name: LOSSES.get(name) for name in LOSSES.names()}
    return sorted(
        name
        for name, loss in losses.items()
        if loss.needs_reference and loss.needs_loser and loss.statistics is None and loss.averages is None
    )
