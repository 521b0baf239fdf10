"""Every on-policy method in the engine: where it begins, what it costs, that it learns, stops and resumes."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from diffusers import DDIMScheduler

from qsd.config.check import schema_fields
from qsd.errors import UserError
from qsd.models.attention import training_attention
from qsd.runtime import Interrupted
from qsd.stages.spec import STAGES
from qsd.stages.train import run as train
from qsd.training.loss_cost import BACKWARD
from qsd.training.methods import REGISTRY
from qsd.training.metrics import read_metrics, read_validation
from qsd.training.processes import Processes
from tests.qsd import tiny_pipeline, tiny_world
from tests.qsd.tiny_stages import TinyStages
from tests.qsd.training.by_hand import by_hand
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


def test_there_are_the_methods_of_the_field() -> None:
    assert METHODS == ["d3po", "ddpo", "flow_grpo", "spo", "tailorpo", "tailorpo_g"]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_first_step_has_ratio_one_and_costs_what_is_planned(world: TinyStages, name: str, guidance: float) -> None:
    engine = engine_for(world, name, method__guidance_scale=guidance)
    logged = columns(engine.method, engine.method.step(0))
    if name in POLICY_GRADIENTS:
        assert (logged["ratio_distance"], logged["clipped"]) == (0.0, 0.0)
        assert logged.get("kl", 0.0) == 0.0
    else:
        assert logged["log_ratio_winner"] == logged["log_ratio_loser"] == 0.0
        assert logged["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert logged["used"] == 1.0
    assert logged["not_finite"] == 0
    gradient = sum(float(item.grad.norm()) for item in engine.method.parameters.values() if item.grad is not None)
    assert gradient > 0
    flat = flat_values(engine.method.config)
    passes = REGISTRY.get(name).passes
    assert passes is not None
    planned = passes(flat)
    assert logged["passes"] == planned.forward
    assert logged["trained_passes"] == planned.trained
    assert logged["scored"] == planned.scored


@pytest.mark.parametrize("name", METHODS)
def test_two_updates_on_a_batch_cost_what_is_planned(world: TinyStages, name: str) -> None:
    """The second one makes passes with gradients only: samples, scores and reference are kept."""
    engine = engine_for(world, name, method__updates=2, method__guidance_scale=2.0)
    method = engine.method
    steps = [columns(method, engine.step(number)[0]) for number in range(2)]
    assert [step["used"] for step in steps] == [1.0, 1.0]
    passes = REGISTRY.get(name).passes
    assert passes is not None
    planned = passes(flat_values(method.config))
    for column, expected in (
        ("passes", planned.forward),
        ("trained_passes", planned.trained),
        ("scored", planned.scored),
    ):
        assert sum(step[column] for step in steps) == 2 * expected
    assert (steps[1]["passes"], steps[1]["scored"]) == (0, 0)
    moved = "ratio_distance" if name in POLICY_GRADIENTS else "log_ratio_winner"
    assert steps[1][moved] != 0.0, "the policy has moved"
    if name == "flow_grpo":
        assert steps[1]["kl"] > 0


@pytest.mark.parametrize("steps", [2, 3])
def test_images_beside_the_steps_cost_what_is_planned(world: TinyStages, tmp_path: Path, steps: int) -> None:
    """Watched prompts under the base model and at every validation, and those that an ensemble's scale comes from."""
    settings = {
        "method__guidance_scale": 2.0,
        "method__watched_prompts": 2,
        "method__watched_split": "seen",
        "evaluation__splits": ["evaluation"],
        "training__validation_steps": 2,
        "training__steps": steps,
        "reward__model": "ensemble",
        "reward__members": ["clip_emoji", "aesthetic_emoji"],
    }
    engine = engine_for(world, "tailorpo", **settings)
    (tmp_path / "out").mkdir()
    engine.method.keep_files(tmp_path / "out")
    engine.run(tmp_path / "out", tmp_path / "state", lambda *_: None)
    sampler = engine.method.sampler
    values = {name: reduce(getattr, name.split("."), engine.method.config) for name in schema_fields()}
    planned = STAGES["train"].cost.work(values, Mock()).amount
    assert sampler.passes + (1 + BACKWARD) * sampler.trained_passes == planned
    unwatched = STAGES["train"].cost.work({**values, "method.watched_prompts": 0}, Mock()).amount
    drawings = {2: 2, 3: 3}[steps]  # the base model's, then after step 2 and after the last one
    assert planned - unwatched == drawings * 2 * 4 * 2


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_memory_format_is_the_one_that_was_asked_for(world: TinyStages, channels_last: bool) -> None:
    network = engine_for(world, "tailorpo", training__channels_last=channels_last).method.denoiser.network
    weights = [item for item in network.parameters() if item.ndim == 4 and min(item.shape[1:]) > 1]
    assert weights
    assert all(item.is_contiguous(memory_format=torch.channels_last) == channels_last for item in weights)


@pytest.mark.parametrize("name", ["tailorpo", "d3po"])
def test_what_is_kept_of_the_reference_is_what_it_would_say_again(world: TinyStages, name: str) -> None:
    """Bit by bit, after an update of the adapter, which is off meanwhile."""
    engine = engine_for(world, name, method__updates=2)
    engine.step(0)
    method: Any = engine.method
    _, samples, prompts = method._batch
    kept, samples.references = samples.references, None
    with training_attention(method.device, method.config.training.attention):
        computed = method._references(samples, prompts)
    assert computed is not kept
    assert bool(kept.winner.all())
    for field in ("winner", "loser", "std"):
        assert torch.equal(getattr(kept, field), getattr(computed, field))


def flat_values(config: Any) -> dict[str, Any]:
    """The section ``method`` by dotted name."""
    return {f"method.{name}": value for name, value in vars(config.method).items()}


@pytest.mark.parametrize("name", METHODS)
def test_it_raises_a_reward_whose_optimum_is_known(world: TinyStages, name: str) -> None:
    """Latents with a mean nearer to the aim, measured on other noise than that of the training."""
    settings: dict[str, Any] = {"training__steps": 8, "training__learning_rate": 2e-2, "method__prompts_per_step": 4}
    if name == "d3po":
        settings["method__beta"] = 10.0
    engine = engine_for(world, name, **settings)
    reward = ToyReward()
    engine.method.reward = reward  # type: ignore[assignment]
    before = mean_reward(engine.method, reward)
    for step in range(8):
        engine.step(step)
    after = mean_reward(engine.method, reward)
    assert after > before + 0.02 * abs(before), (before, after)


@pytest.mark.parametrize(("name", "updates"), [("tailorpo", 1), ("ddpo", 3), ("d3po", 3), ("flow_grpo", 3)])
def test_a_stopped_training_ends_in_the_same_bytes(world: TinyStages, tmp_path: Path, name: str, updates: int) -> None:
    """Stopped after every possible step, the middle of a batch of samples included."""
    watched = {"method__watched_prompts": 2, "method__watched_split": "seen", "evaluation__splits": ["evaluation"]}
    settings = settings_for(world, name, method__updates=updates, training__steps=5, training__validation_steps=2)
    settings |= watched
    whole = state_files(world.with_inputs().run(train, tmp_path / "whole", **settings))
    assert {"metrics.jsonl", "validation.jsonl", "summary.json", "strip.png", "samples/step-00002.png"} < set(whole)
    for steps in (1, 4):
        folder = tmp_path / f"stopped-{steps}"
        context = tiny_world.context(world.config(**settings), folder)
        asked = iter([*[False] * steps, True])
        with pytest.raises(Interrupted):
            train.run(replace(context, stopping=lambda asked=asked: next(asked)))
        world.run(train, folder, **settings)
        assert state_files(folder) == whole


@pytest.mark.parametrize("name", METHODS)
def test_shares_of_three_processes_give_the_gradient_of_one(
    world: TinyStages, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gradient(ranks: list[Processes]) -> torch.Tensor:
        total: torch.Tensor | None = None
        for rank in ranks:
            method = engine_for(world, name, rank, method__prompts_per_step=4).method
            torch.manual_seed(0)
            with torch.no_grad():
                for parameter in method.parameters.values():
                    parameter += 0.02 * torch.randn_like(parameter)
            with monkeypatch.context() as patch:
                patch.setattr(Processes, "sum", lambda _self, tensor: tensor)
                method.step(1)
            parts = [
                torch.zeros_like(item).flatten() if item.grad is None else item.grad.flatten()
                for item in method.parameters.values()
            ]
            total = torch.cat(parts) if total is None else total + torch.cat(parts)
        assert total is not None
        return total

    whole = gradient([Processes()])
    shared = gradient([Processes(rank, 3) for rank in range(3)])
    assert whole.norm() > 0
    assert (shared - whole).norm() <= 5e-3 * whole.norm()


def test_damaged_rewards_are_counted_and_never_used(world: TinyStages) -> None:
    """Every image of one prompt has no reward: its pairs are left out, the others' are as before."""
    engine = engine_for(world, "tailorpo")
    method = engine.method
    score = method.reward.score

    def damaged(latents: Any, captions: Any) -> Any:
        values = score(latents, captions)
        lost = torch.tensor([caption == captions[0] for caption in captions])
        method.reward.not_finite += int(lost.sum())
        return values.masked_fill(lost, math.nan)

    method.reward.score = damaged  # type: ignore[method-assign]
    logged = columns(method, method.step(0))
    assert logged["not_finite"] == 2 * 2
    assert logged["used"] == pytest.approx(2 / 3)
    assert math.isfinite(logged["loss"])
    assert math.isfinite(logged["reward"])


def test_without_any_finite_reward_nothing_is_learnt(world: TinyStages, tmp_path: Path) -> None:
    engine = engine_for(world, "tailorpo", training__steps=2)
    method = engine.method
    method.reward.score = lambda _latents, captions: torch.full((len(captions),), math.nan)  # type: ignore[method-assign]
    before = {name: item.detach().clone() for name, item in method.parameters.items()}
    values, _ = engine.step(0)
    logged = columns(method, values)
    assert (logged["loss"], logged["used"]) == (0.0, 0.0)
    assert math.isnan(logged["reward"])
    assert all(torch.equal(before[name], item) for name, item in method.parameters.items())


def test_without_any_used_sample_two_processes_change_nothing_either(
    world: TinyStages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a step that gave AdamW momentum; the other process has the same sums."""
    monkeypatch.setattr(Processes, "sum", lambda _self, tensor: 2 * tensor)
    engine = engine_for(world, "tailorpo", Processes(0, 2), training__weight_decay=0.5)
    method = engine.method
    values, _ = engine.step(0)
    assert method.has_gradients(values)
    before = {name: tensor.clone() for name, tensor in engine.optimizer.tensors().items()}
    assert any(name.startswith("exp_avg/") and bool(tensor.any()) for name, tensor in before.items())
    method.reward.score = lambda _latents, captions: torch.full((len(captions),), math.nan)  # type: ignore[method-assign]
    values, grad_norm = engine.step(1)
    assert not method.has_gradients(values)
    assert float(grad_norm) == 0.0
    after = engine.optimizer.tensors()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_process_without_used_samples_joins_the_others(world: TinyStages, monkeypatch: pytest.MonkeyPatch) -> None:
    """What decides is the sum over the processes, not what this one has."""
    method = engine_for(world, "tailorpo", Processes(0, 2)).method
    method.reward.score = lambda _latents, captions: torch.full((len(captions),), math.nan)  # type: ignore[method-assign]
    used = method.means.index("used")

    def with_another(_self: Processes, table: torch.Tensor) -> torch.Tensor:
        total = 2 * table
        total[2 * used] += 1
        return total

    monkeypatch.setattr(Processes, "sum", with_another)
    assert method.has_gradients(method.step(0))


@pytest.mark.parametrize("name", METHODS)
def test_trained_steps_without_noise_are_refused_at_the_start(world: TinyStages, tmp_path: Path, name: str) -> None:
    """A schedule that ends at clean latents: the last step has one outcome."""
    stock = tiny_pipeline.pipeline()
    stock.scheduler = DDIMScheduler.from_config(stock.scheduler.config, set_alpha_to_one=True)
    stock.save_pretrained(tmp_path / "model")
    settings = {"model__path": str(tmp_path / "model"), "method__placement": "last"}
    with pytest.raises(
        UserError, match=r"method\.placement choose step 3 of 0 to 3, which brings no noise.*earlier ones"
    ):
        engine_for(world, name, **settings, method__trained_steps=1)
    method = engine_for(world, name, **settings, method__trained_steps=2).method
    assert "no noise, so nothing to learn, at trained step 3" in list(method.opening_lines())
    assert columns(method, method.step(0))["used"] > 0


def test_the_opening_lines_say_whether_there_is_a_beta(world: TinyStages) -> None:
    lines = {
        loss: list(engine_for(world, "tailorpo", loss__name=loss).method.opening_lines())[-1] for loss in ("dpo", "ipo")
    }
    assert "is multiplied by beta 10 (method.beta; loss.beta is not read)" in lines["dpo"]
    assert "it has no beta" in lines["ipo"]
    assert "10" not in lines["ipo"]


def test_guided_winners_have_a_higher_reward(world: TinyStages) -> None:
    """Scored again: what guidance moved against what it was."""
    plain, guided = (engine_for(world, name).method for name in ("tailorpo", "tailorpo_g"))
    reward = ToyReward()
    pairs = []
    for method in (plain, guided):
        method.reward = reward  # type: ignore[assignment]
        chosen, visits = method.stream.at(0, 4)
        prompts = method.sampler.prompts(chosen, visits)
        with torch.no_grad():
            pairs.append((method, prompts, method.collect(prompts)))
    first = [samples.index == method.trained[0] for method, _, samples in pairs]
    scored = []
    for (method, prompts, samples), rows in zip(pairs, first, strict=True):
        step, winners = method.trained[0] + 1, samples.winner[rows]
        clean = method.sampler.clean(method.sampler.sampled(winners, step, prompts), winners, step)
        scored.append(reward.score(clean, prompts.captions))
    assert torch.equal(pairs[0][2].loser[first[0]], pairs[1][2].loser[first[1]])
    assert bool((scored[1] > scored[0]).all())


def test_sampling_goes_on_from_the_winner_or_from_a_random_candidate(world: TinyStages) -> None:
    """At a state after the first ranked step."""
    states = {}
    for taken in ("winner", "random"):
        method = engine_for(
            world, "tailorpo", method__continue_from=taken, method__trained_steps=0, method__candidates=4
        ).method
        chosen, visits = method.stream.at(0, 4)
        with torch.no_grad():
            samples = method.collect(method.sampler.prompts(chosen, visits))
        following = samples.state[samples.index == 1]
        won = samples.winner[samples.index == 0]
        states[taken] = [torch.equal(ours, theirs) for ours, theirs in zip(following, won, strict=True)]
    assert all(states["winner"])
    assert not all(states["random"])


def test_the_stage_leaves_its_words_and_counts(world: TinyStages, tmp_path: Path) -> None:
    settings = settings_for(world, "tailorpo", training__steps=3)
    world.with_inputs().run(train, tmp_path, **settings)
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert "4 training prompts and no images" in card
    assert "`clip_emoji (cosine)` scored" in card
    assert "preference pairs" not in card
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert read_validation(tmp_path) == []


def test_training_prompts_that_are_evaluated_are_refused(world: TinyStages, tmp_path: Path) -> None:
    from qsd.stages.spec import stage_meaning
    from tests.qsd.tiny_flat import flat

    settings = settings_for(world, "tailorpo")
    path = tmp_path / "prompts.csv"
    path.write_text("prompt_id,caption,split\nx,a new one,training\ny,  Prompt   1,training\n")
    with pytest.raises(
        UserError, match=r"1 training prompts are also held-out prompts.*'y'.*'p1' of split 'evaluation'"
    ):
        stage_meaning("train", flat(world, **{**settings, "method__prompts": str(path)}))


def test_two_real_processes_train_as_one(world: TinyStages, tmp_path: Path) -> None:
    """Started by torchrun on the CPU; the prompts of a step are shared, the sums differ in rounding alone."""
    settings = settings_for(world, "tailorpo", method__prompts_per_step=4, training__steps=3)
    alone = read_metrics(world.with_inputs().run(train, tmp_path / "one", **settings))
    together = read_metrics(by_hand(world, tmp_path / "two", 2, inputs=(), **settings))
    for one, two in zip(alone, together, strict=True):
        assert {key: one[key] for key in ("passes", "trained_passes", "scored", "not_finite", "used")} == {
            key: two[key] for key in ("passes", "trained_passes", "scored", "not_finite", "used")
        }
        assert two["reward"] == pytest.approx(one["reward"], abs=1e-4)
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=0.05)


@pytest.mark.parametrize("name", ["ddpo", "tailorpo"])
@pytest.mark.parametrize(
    "settings",
    [
        {"lora__dora": True, "lora__rslora": True},
        {"training__precision": "bf16_norms"},
        {"training__precision": "bf16", "lora__dora": True},
    ],
)
def test_further_adapters_and_norms_in_bf16_begin_at_ratio_one(
    world: TinyStages, name: str, settings: dict[str, Any]
) -> None:
    engine = engine_for(world, name, **settings)
    logged = columns(engine.method, engine.method.step(0))
    ratios = ("ratio_distance",) if name in POLICY_GRADIENTS else ("log_ratio_winner", "log_ratio_loser")
    assert [logged[ratio] for ratio in ratios] == [0.0] * len(ratios)
    assert any(item.grad is not None and item.grad.any() for item in engine.method.parameters.values())


def test_checkpointing_and_the_micro_batch_that_is_chosen_keep_the_bytes(world: TinyStages, tmp_path: Path) -> None:
    settings = settings_for(world, "ddpo", training__steps=1, training__micro_batch=16)
    plain = state_files(world.run(train, tmp_path / "plain", **settings))
    less = {**settings, "training__gradient_checkpointing": True, "training__micro_batch": 0}
    assert state_files(world.run(train, tmp_path / "less", **less)) == plain
