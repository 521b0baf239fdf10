"""Families of reward models that can be trained. One file per member: how its weights are opened for training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from qsd.reward_training.schema import BaseConfig
    from qsd.reward_training.trainable import TrainableReward


@dataclass(frozen=True)
class RewardFamily:
    """``open``: section ``base`` of a recipe -> the reward model, on the CPU, all of it trainable."""

    open: Callable[[BaseConfig], TrainableReward]


REGISTRY: Registry[RewardFamily] = Registry("family of reward models", "qsd.reward_training.families", "FAMILY")
