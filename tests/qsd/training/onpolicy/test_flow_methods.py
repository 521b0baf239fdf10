"""Every on-policy method on tiny SD3 and FLUX folders: where it begins, what it costs, that it learns and resumes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from qsd.errors import UserError
from qsd.runtime import Interrupted
from qsd.stages.train import run as train
from qsd.training.methods import REGISTRY
from qsd.training.metrics import read_metrics
from qsd.training.processes import Processes
from tests.qsd import tiny_world
from tests.qsd.tiny_stages import TinyStages
from tests.qsd.training.by_hand import by_hand
from tests.qsd.training.onpolicy.flow_world import SAVE, FlowModel, flow_model
from tests.qsd.training.onpolicy.onpolicy_world import (
    METHODS,
    POLICY_GRADIENTS,
    ToyReward,
    columns,
    engine_for,
    mean_reward,
    settings_for,
    state_files,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=SAVE)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FlowModel:
    return flow_model(request.param, tmp_path_factory.mktemp("flow") / "model")


@pytest.mark.parametrize("name", METHODS)
def test_it_begins_at_ratio_one_and_costs_what_is_planned(world: TinyStages, model: FlowModel, name: str) -> None:
    """Rewards and the guidance of winners go through the model's own VAE and network; two updates on one batch."""
    engine = engine_for(world, name, method__updates=2, **model.settings)
    first, again = (columns(engine.method, engine.step(number)[0]) for number in range(2))
    assert (first["used"], first["not_finite"]) == (1.0, 0)
    if name in POLICY_GRADIENTS:
        assert (first["ratio_distance"], first["clipped"], first.get("kl", 0.0)) == (0.0, 0.0, 0.0)
        assert again["ratio_distance"] > 0
        assert again.get("kl", 1.0) > 0
    else:
        assert first["log_ratio_winner"] == first["log_ratio_loser"] == 0.0
        assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
        assert again["log_ratio_winner"] != 0.0
    passes = REGISTRY.get(name).passes
    assert passes is not None
    planned = passes({f"method.{setting}": value for setting, value in vars(engine.method.config.method).items()})
    assert first["passes"] + again["passes"] == 2 * planned.forward
    assert first["trained_passes"] + again["trained_passes"] == 2 * planned.trained
    assert first["scored"] + again["scored"] == 2 * planned.scored


def test_winners_are_moved_towards_a_higher_reward_through_network_and_vae(world: TinyStages, model: FlowModel) -> None:
    """The same candidates, scored again by the reward model at the clean image predicted from them."""
    rewards, losers = [], []
    for name in ("tailorpo", "tailorpo_g"):
        method: Any = engine_for(world, name, **model.settings).method
        chosen, visits = method.stream.at(0, 4)
        prompts = method.sampler.prompts(chosen, visits)
        with torch.no_grad():
            samples = method.collect(prompts)
        rows, step = samples.index == method.trained[0], method.trained[0] + 1
        clean = method.sampler.clean(
            method.sampler.sampled(samples.winner[rows], step, prompts), samples.winner[rows], step
        )
        rewards.append(method.reward.score(clean, prompts.captions))
        losers.append(samples.loser[rows])
    assert torch.equal(*losers)
    assert bool((rewards[1] > rewards[0]).all()), rewards


@pytest.mark.parametrize("name", ["tailorpo", *POLICY_GRADIENTS])
def test_it_raises_a_reward_whose_optimum_is_known(world: TinyStages, model: FlowModel, name: str) -> None:
    """Latents with a mean nearer to the aim, measured on other noise than that of the training."""
    settings = {"training__steps": 8, "training__learning_rate": 2e-2, "method__prompts_per_step": 4, **model.settings}
    engine = engine_for(world, name, **settings)
    reward = ToyReward()
    engine.method.reward = reward  # type: ignore[assignment]
    before = mean_reward(engine.method, reward)
    for step in range(8):
        engine.step(step)
    after = mean_reward(engine.method, reward)
    assert after > before + 0.02 * abs(before), (before, after)


@pytest.mark.parametrize(("name", "updates"), [("tailorpo_g", 1), ("flow_grpo", 3)])
def test_a_stopped_training_ends_in_the_same_bytes(
    world: TinyStages, model: FlowModel, tmp_path: Path, name: str, updates: int
) -> None:
    """Stopped in the middle of a batch of samples, where a batch serves several updates."""
    watched = {"method__watched_prompts": 2, "method__watched_split": "seen", "evaluation__splits": ["evaluation"]}
    settings = settings_for(world, name, method__updates=updates, training__steps=3, **watched, **model.settings)
    whole = state_files(world.with_inputs().run(train, tmp_path / "whole", **settings))
    assert {"metrics.jsonl", "validation.jsonl", "summary.json", "strip.png"} < set(whole)
    context = tiny_world.context(world.config(**settings), tmp_path / "stopped")
    asked = iter([False, True])
    with pytest.raises(Interrupted):
        train.run(replace(context, stopping=lambda: next(asked)))
    world.run(train, tmp_path / "stopped", **settings)
    assert state_files(tmp_path / "stopped") == whole


@pytest.mark.parametrize("name", ["tailorpo", "flow_grpo"])
def test_shares_of_two_processes_give_the_gradient_of_one(
    world: TinyStages, model: FlowModel, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Processes, "sum", lambda _self, tensor: tensor)
    gradients = []
    for rank in (Processes(), Processes(0, 2), Processes(1, 2)):
        method = engine_for(world, name, rank, method__prompts_per_step=4, **model.settings).method
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in method.parameters.values():
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
        method.step(1)
        parts = [
            torch.zeros_like(item).flatten() if item.grad is None else item.grad.flatten()
            for item in method.parameters.values()
        ]
        gradients.append(torch.cat(parts))
    whole, *shares = gradients
    assert whole.norm() > 0
    assert (sum(shares) - whole).norm() <= 5e-3 * whole.norm()


def test_two_real_processes_train_as_one(world: TinyStages, model: FlowModel, tmp_path: Path) -> None:
    """Started by torchrun on the CPU; the prompts of a step are shared, the sums differ in rounding alone."""
    settings = settings_for(world, "flow_grpo", method__prompts_per_step=4, training__steps=3, **model.settings)
    alone = read_metrics(world.with_inputs().run(train, tmp_path / "one", **settings))
    together = read_metrics(by_hand(world, tmp_path / "two", 2, inputs=(), **settings))
    counts = ("passes", "trained_passes", "scored", "not_finite", "used")
    for one, two in zip(alone, together, strict=True):
        assert {key: one[key] for key in counts} == {key: two[key] for key in counts}
        assert two["reward"] == pytest.approx(one["reward"], abs=1e-4)
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=0.05)


def test_classifier_free_guidance_of_a_network_with_its_own_is_refused_at_the_start(
    world: TinyStages, model: FlowModel, tmp_path: Path
) -> None:
    """As by the plan, which cannot see a model that is not on its machine."""
    settings = settings_for(world, "ddpo", **{**model.settings, "method__guidance_scale": 5.0}, training__steps=1)
    if model.pipeline == "FluxPipeline":
        with pytest.raises(UserError, match=r"method\.guidance_scale is 5, .* set method\.guidance_scale: 1"):
            world.with_inputs().run(train, tmp_path, **settings)
    else:
        assert len(read_metrics(world.with_inputs().run(train, tmp_path, **settings))) == 1
