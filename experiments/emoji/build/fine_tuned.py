"""Step: ``hps_emoji`` and ``pick_emoji``: ``clip_emoji`` fine-tuned on the choices by their recipes."""

from __future__ import annotations

import shutil
from pathlib import Path

from experiments.emoji.build.world import World
from qsd.progress import ShownProgress
from qsd.reward_training.report import summary_lines
from qsd.reward_training.train import REWARD, train_reward

NAMES = ("hps_emoji", "pick_emoji")
RECIPES = Path("experiments")


def build(world: World) -> None:
    """Train and store ``rewards/hps_emoji`` and ``rewards/pick_emoji``; only what training changed is stored."""
    choices = world.assets / "choices"
    settings = [
        f"base.path={world.rewards / 'clip_emoji'}",
        f"choices.path={choices / 'train.json'}",
        f"test.path={choices / 'test.json'}",
        f"test.weights={world.rewards}",
    ]
    for name in NAMES:
        target = world.rewards / name
        if target.exists():
            continue
        with ShownProgress(name) as report:
            summary = train_reward(RECIPES / f"{name}.yaml", settings, world.work / name, report)
        for line in summary_lines(summary):
            print(f"{name}: {line}")
        shutil.copytree(world.work / name / REWARD, target)
