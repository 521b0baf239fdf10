"""AdamW on the adapter: fp32 weights and state whatever the compute dtype; the rate is a function of the step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from qsd.training import optimizer_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from qsd.config.schema import TrainingConfig


class LearningRateSchedule(Protocol):
    """What the rate depends on; a section of a configuration."""

    steps: int
    learning_rate: float
    schedule: str
    warmup_steps: int


def learning_rate(training: LearningRateSchedule, step: int) -> float:
    """The rate of step 0, 1, …: linear warm-up to the peak, then constant, or a cosine that ends at zero."""
    if step < training.warmup_steps:
        return training.learning_rate * (step + 1) / training.warmup_steps
    if training.schedule == "constant":
        return training.learning_rate
    done = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


_KIND = "adapter"
"""What a checkpoint calls the parameters."""


class AdapterOptimizer:
    """AdamW with (0.9, 0.999), eps 1e-8, clipping by global norm, over named fp32 parameters."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], training: TrainingConfig) -> None:
        import torch

        assert all(parameter.dtype == torch.float32 for parameter in parameters.values()), "the adapter must be fp32"
        self._parameters = dict(parameters)
        self._training = training
        device = next(iter(parameters.values())).device.type
        self._adamw = torch.optim.AdamW(
            self._parameters.values(),
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            fused=device in ("cpu", "cuda"),
        )

    def step(self, number: int) -> Tensor:
        """Update with the gradients there are, clear them, and return their global norm before clipping."""
        import torch

        self._adamw.param_groups[0]["lr"] = learning_rate(self._training, number)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters.values(), self._training.max_grad_norm)
        self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """Adapter and optimiser state by name, for a checkpoint."""
        return optimizer_state.tensors(self._parameters, self._adamw, _KIND)

    def load_tensors(self, found: Mapping[str, Tensor]) -> None:
        """Continue from the tensors of a checkpoint."""
        optimizer_state.load_tensors(self._parameters, self._adamw, _KIND, found)
