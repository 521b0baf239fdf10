"""AdamW on named weights: fp32 weights and state whatever the compute dtype; the rate is a function of the step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

_STATE = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps for each parameter that has had a gradient."""


class LearningRateSchedule(Protocol):
    """What the rate depends on; a section of a configuration."""

    steps: int
    learning_rate: float
    schedule: str
    warmup_steps: int


def learning_rate(schedule: LearningRateSchedule, step: int) -> float:
    """The rate of step 0, 1, …: linear warm-up to the peak, then constant, or a cosine or a line that ends at zero."""
    if step < schedule.warmup_steps:
        return schedule.learning_rate * (step + 1) / schedule.warmup_steps
    if schedule.schedule == "constant":
        return schedule.learning_rate
    done = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    if schedule.schedule == "linear":
        return schedule.learning_rate * (1 - done)
    return schedule.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class OptimizerSettings:
    """Settings of AdamW.

    Attributes:
        schedule: length of the training and learning rate.
        weight_decay: ≥ 0.
        max_grad_norm: gradients are clipped to this global norm; None clips nothing.
        betas: decays of the first and the second moment.
        eps: added to the root of the second moment.
        decay_matrices_only: weight decay leaves out norms, biases, vectors and scalars, which have fewer than two
            dimensions.
        undecayed: and weights with this in their name; empty: none.
        kind: what a checkpoint calls the weights.
    """

    schedule: LearningRateSchedule
    weight_decay: float
    max_grad_norm: float | None
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    decay_matrices_only: bool = False
    undecayed: str = ""
    kind: str = "adapter"


class Optimizer:
    """AdamW over named fp32 parameters, with clipping by global norm."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], settings: OptimizerSettings) -> None:
        assert all(parameter.dtype == torch.float32 for parameter in parameters.values()), "trained weights are fp32"
        self.settings = settings
        self._parameters = dict(parameters)
        device = next(iter(parameters.values())).device.type
        self._adamw = torch.optim.AdamW(
            self._groups(),
            lr=settings.schedule.learning_rate,
            betas=settings.betas,
            eps=settings.eps,
            fused=device in ("cpu", "cuda"),
        )

    def step(self, number: int) -> Tensor:
        """Update with the gradients there are, clear them, and return their global norm before clipping."""
        rate = learning_rate(self.settings.schedule, number)
        for group in self._adamw.param_groups:
            group["lr"] = rate
        most = self.settings.max_grad_norm
        norm = nn.utils.clip_grad_norm_(self._parameters.values(), math.inf if most is None else most)
        self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint: ``<kind>/<name>`` per parameter, and ``step/<name>``, ``exp_avg/<name>``, ….

        All in fp32.
        """
        tensors: dict[str, Tensor] = {}
        for name, parameter in self._parameters.items():
            tensors[f"{self.settings.kind}/{name}"] = parameter.detach()
            for key, value in self._adamw.state[parameter].items():
                assert value.dtype == torch.float32, "the optimiser's state must be fp32"
                tensors[f"{key}/{name}"] = value
        return tensors

    def load_tensors(self, stored: Mapping[str, Tensor]) -> None:
        """Continue from the tensors of a checkpoint, which may hold others as well.

        The step counter goes to the device of its parameter, where a fused AdamW keeps it.
        """
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(stored[f"{self.settings.kind}/{name}"])
                self._adamw.state[parameter] = {
                    key: stored[f"{key}/{name}"].to(parameter.device) for key in _STATE if f"{key}/{name}" in stored
                }

    def _groups(self) -> list[dict[str, object]]:
        """Parameters with their weight decay."""
        decayed, others = list[Tensor](), list[Tensor]()
        for name, parameter in self._parameters.items():
            (decayed if self._decays(name, parameter) else others).append(parameter)
        decay = self.settings.weight_decay
        groups = ({"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0})
        return [group for group in groups if group["params"]]

    def _decays(self, name: str, parameter: Tensor) -> bool:
        settings = self.settings
        if settings.undecayed and settings.undecayed in name:
            return False
        return parameter.ndim >= 2 or not settings.decay_matrices_only
