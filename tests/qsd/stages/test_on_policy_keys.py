"""What planning knows of an on-policy training: what is part of its meaning, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qsd.config.load import load_flat, override
from qsd.errors import UserError
from qsd.losses import REGISTRY as LOSSES
from qsd.stages.spec import stage_meaning
from qsd.stages.train.on_policy_checks import step_losses
from tests.qsd.training.onpolicy.onpolicy_world import METHODS


def meaning(**settings: Any) -> dict[str, Any]:
    """Of a training on the emoji world; ``__`` stands for the dot."""
    assignments = {name.replace("__", "."): value for name, value in settings.items()}
    return stage_meaning("train", override(load_flat(Path("experiments/emoji.yaml")), assignments))


@pytest.mark.parametrize("name", METHODS)
def test_the_precision_of_the_reward_is_part_of_the_training(name: str) -> None:
    """The reward model scores in it; with the default nothing is said of it, so that no key of a store changes."""
    usual = meaning(method__name=name)
    assert not any("precision" in field for field in usual)
    assert meaning(method__name=name, reward__precision="bf16") == {**usual, "reward.precision": "bf16"}


def test_guidance_by_a_reward_without_gradient_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"reward\.model: jpeg_size has no gradient.*guidance of method tailorpo_g"):
        meaning(method__name="tailorpo_g", reward__model="jpeg_size")
    members = {"reward__model": "ensemble", "reward__members": ["clip_emoji", "jpeg_size"]}
    with pytest.raises(UserError, match=r"reward\.members: jpeg_size has no gradient"):
        meaning(method__name="tailorpo_g", **members)
    assert meaning(method__name="tailorpo", reward__model="jpeg_size")["reward.model"] == "jpeg_size"
    assert meaning(method__name="tailorpo", **members)["reward.model"] == "ensemble"


def test_an_ensemble_that_ranks_within_a_data_set_is_refused() -> None:
    ensemble = {"reward__model": "ensemble", "reward__members": ["clip_emoji", "pick_emoji"]}
    with pytest.raises(UserError, match=r"reward\.combine is 'percentile_rank'.*method d3po has none; use z_score"):
        meaning(method__name="d3po", reward__combine="percentile_rank", **ensemble)


def test_a_loss_that_reads_more_than_a_step_is_refused() -> None:
    with pytest.raises(UserError, match=r"loss\.name 'kto' reads more of a pair than method spo has.*cdpo, dpo"):
        meaning(method__name="spo", loss__name="kto")
    assert meaning(method__name="ddpo", loss__name="kto") == meaning(method__name="ddpo"), "it reads no loss"


def test_one_watched_prompt_has_no_standard_error() -> None:
    with pytest.raises(UserError, match=r"method\.watched_prompts is 1, but .* watch more, or 0 for none"):
        meaning(method__name="ddpo", method__watched_prompts=1)
    assert meaning(method__name="ddpo", method__watched_prompts=0)["method.watched_prompts"] == 0


def test_planning_and_training_refuse_the_same_losses() -> None:
    from qsd.training.onpolicy.preferences import fits_steps

    assert step_losses() == sorted(name for name in LOSSES.names() if fits_steps(LOSSES.get(name)))
