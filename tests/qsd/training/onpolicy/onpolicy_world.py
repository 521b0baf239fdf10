"""On-policy methods on a tiny world: the smallest pipeline, random reward models, four training prompts."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qsd.models.denoiser import load_denoiser
from qsd.training.engine import Engine, Recipe
from qsd.training.methods import REGISTRY
from qsd.training.onpolicy.method import OnPolicyMethod
from qsd.training.processes import Processes
from tests.qsd.tiny_stages import TinyStages

METHODS = [name for name in REGISTRY.names() if REGISTRY.get(name).on_policy]
POLICY_GRADIENTS = ("ddpo", "flow_grpo")
"""Those that compare with the policy that drew the samples; the others compare with the reference."""
SETTINGS: dict[str, Any] = {
    "method__prompts_per_step": 3,
    "method__sampler_steps": 4,
    "method__guidance_scale": 1.0,
    "method__trained_steps": 2,
    "method__skipped_steps": 0,
    "method__threshold": 0.0,
    "method__watched_prompts": 0,
    "reward__model": "clip_emoji",
}


def settings_for(world: TinyStages, name: str, **settings: Any) -> dict[str, Any]:
    """Settings of a method; what it does not read is left as it is."""
    path = world.root / "training_prompts.csv"
    lines = ["prompt_id,caption,split", *(f"t{number},training prompt {number},training" for number in range(4))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {**SETTINGS, "method__name": name, "method__prompts": str(path), **settings}


def engine_for(
    world: TinyStages, name: str, processes: Processes | None = None, **settings: Any
) -> Engine[OnPolicyMethod[Any]]:
    """An engine with a method as stage train makes it."""
    config = world.config(**settings_for(world, name, **settings))
    denoiser = load_denoiser(config.model.path, torch.device("cpu"), config.training.precision, config.model.resolution)
    module, _, class_name = REGISTRY.get(name).entry.partition(":")
    method = getattr(importlib.import_module(module), class_name)(config, {}, denoiser, processes)
    return Engine(method, Recipe.of_adapter(config.training))


def columns(method: OnPolicyMethod[Any], values: Tensor) -> dict[str, float]:
    """What a step gave, by column."""
    return dict(zip(method.columns, values.tolist(), strict=True))


class ToyReward:
    """Highest where every latent is ``AIM``; nothing is decoded. Stands for a reward whose optimum is known."""

    AIM = 0.8
    described = "toy"

    def __init__(self) -> None:
        self.calls = self.not_finite = 0
        self.is_calibrated = True
        self.revisions: dict[str, str] = {}

    def score(self, latents: Tensor, captions: Sequence[str]) -> Tensor:
        self.calls += len(captions)
        return self._of(latents.detach())

    def score_with_gradient(self, latents: Tensor, captions: Sequence[str]) -> Tensor:
        self.calls += len(captions)
        return self._of(latents)

    def require_gradient(self) -> None:
        return

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def load_tensors(self, stored: dict[str, Tensor]) -> None:
        assert not stored

    def _of(self, latents: Tensor) -> Tensor:
        return -(latents.mean(dim=(1, 2, 3)) - self.AIM).square()


def mean_reward(method: OnPolicyMethod[Any], reward: ToyReward, prompts: int = 4, draws: int = 8) -> float:
    """Of images from many first noises, without noise between the steps."""
    chosen, _ = method.stream.at(0, prompts)
    total = 0.0
    for visit in range(1000, 1000 + draws):
        batch = method.sampler.prompts(chosen, [visit] * prompts)
        with torch.no_grad():
            clean = method.sampler.images(method.sampler.start(batch), batch)
        total += float(reward.score(clean, batch.captions).mean())
    return total / draws


def state_files(folder: Path) -> dict[str, bytes]:
    """Everything of an artefact but the resumable state."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and ".state" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
