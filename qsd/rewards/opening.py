"""Reward models opened by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qsd.rewards.revision import revision
from qsd.rewards.scorers import REGISTRY

if TYPE_CHECKING:
    from qsd.rewards.scorer import Scorer


def open_reward(name: str, weights: str, device: str) -> Scorer:
    """Load the reward model ``name`` from its folder below ``weights`` onto a torch device.

    Raises:
        UserError: unknown name, or missing or damaged weights.
    """
    spec = REGISTRY.get(name)
    of_weights = revision(name, weights)
    scorer = spec.open(Path(weights) / spec.folder, device)
    scorer.name, scorer.revision = name, of_weights
    return scorer
