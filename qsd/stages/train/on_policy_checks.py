"""What an on-policy method cannot use, found while planning: settings of pairs, losses, rewards, one watched prompt.

Training refuses the same losses and rewards (``qsd.training.onpolicy``), but only when the cell's turn comes, which may
be hours later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.config.check import schema_fields
from qsd.errors import UserError
from qsd.losses import REGISTRY as LOSSES
from qsd.rewards.scorers import ENSEMBLE
from qsd.rewards.scorers import REGISTRY as SCORERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qsd.stages.stage_spec import Values
    from qsd.training.methods import MethodSpec


OF_PAIRS = {
    "loss.beta_schedule": "an on-policy training has method.beta",
    "training.budget": "an on-policy training has training.steps",
    "training.caption_dropout": "an on-policy training samples every prompt with its caption",
    "training.flip": "an on-policy training has no images of pairs",
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


def check_members_fit(values: Values, method: MethodSpec, rewards: Sequence[str]) -> None:
    """Refuse members that the method cannot use.

    Args:
        values: a flat configuration.
        method: the one that it names.
        rewards: the reward models that score.

    Raises:
        UserError: a loss that reads more than a step has, an ensemble that ranks within a data set, guidance by a
            reward model without gradient, or one watched prompt.
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
    if values["method.watched_prompts"] == 1:
        raise UserError(
            "method.watched_prompts is 1, but the change of a score has a standard error over two or more prompts; "
            "watch more, or 0 for none"
        )
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
