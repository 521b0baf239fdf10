"""A flat configuration for grids that read no file."""

from __future__ import annotations

from typing import Any

from qsd.config.load import defaults

POOLS: dict[str, list[Any]] = {
    "quality.metric": ["product", "difference", "winner_only"],
    "selection.strategy": ["top_k", "bottom_k", "random", "threshold"],
    "selection.fraction": [1.0, 5.33, 10.0, 50.0, 100.0],
    "loss.name": ["dpo", "sft"],
    "loss.beta": [100.0, 1000.0],
    "lora.rank": [1, 2, 4, 8],
    "reward.model": ["clip_emoji", "aesthetic_emoji"],
    "lora.targets": [["to_q"], ["to_q", "to_v"]],
    "generation.steps": [10, 20],
}
FLAT = defaults() | {
    "data.path": "p",
    "model.path": "m",
    "reward.model": "clip_emoji",
    "reward.weights": "w",
    "training.steps": 3,
    "training.pairs_per_step": 2,
    "training.learning_rate": 1e-3,
    "evaluation.prompts": "p.csv",
    "evaluation.scorers": ["clip_emoji"],
}
