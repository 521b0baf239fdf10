"""AdamW on chosen layers: fp32 weights and state; decay on matrices alone; the rate is a function of the step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.training.optimizer import learning_rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

    from qsd.reward_training.schema import OptimiserConfig


def make(parameters: Mapping[str, nn.Parameter], config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW; weight decay leaves out norms, biases, vectors and scalars, which are those below two dimensions."""
    import torch

    groups = [
        {"params": [p for p in parameters.values() if (p.ndim >= 2) == decays], "weight_decay": decay}
        for decays, decay in ((True, config.weight_decay), (False, 0.0))
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )


def set_rate(optimiser: torch.optim.Optimizer, config: OptimiserConfig, step: int) -> float:
    """Set, and return, the rate of a step, counted from 0."""
    rate = learning_rate(config, step)
    for group in optimiser.param_groups:
        group["lr"] = rate
    return rate
