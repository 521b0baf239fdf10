"""β that follows the size of d, so that a comparison of losses is not one of how well each one's β was chosen.

    β = 2 log 4 / M        M ← γ M + (1 - γ) mean |d| over all pairs of a step        γ = ``loss.beta_decay``

At this β the typical pair has β/2 · |d| = log 4, where the sigmoid's derivative has fallen from 1/2 to 1/5: neither
nothing learned yet nor saturated. M begins where β is ``loss.beta``, and β stays within a factor ``loss.beta_range`` of
it. The rule is that of SimpleTuner's Flow-DPO (``auto_beta``: target 0.2, decay 0.99), which begins elsewhere.

A step uses the M of the steps before it, so no further pass of the network is needed, and all its micro-batches have
one β. The sum of |d| is exchanged among the processes with the metric columns, so all of them have the same β to the
last bit, and M is part of the checkpoint. β is a tensor on the device: no step waits for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qsd.training.offpolicy.beta_schedule import AUTOMATIC, takes_schedule

if TYPE_CHECKING:
    from qsd.losses import Loss, PairErrors

TARGET = math.log(4)
"""β/2 · |d| of the typical pair; σ(-log 4) = 0.2."""
_STATE = "mean_size_of_d"


class AutomaticBeta:
    """The running mean of |d|, and the β that it makes.

    Args:
        settings: of the section ``loss``.
        device: where the losses are computed.
    """

    def __init__(self, settings: Any, device: torch.device) -> None:
        self._settings = settings
        start = 2 * TARGET / settings.beta
        self._mean = torch.full((1,), start, dtype=torch.float64, device=device)
        self._bounds = start / settings.beta_range, start * settings.beta_range

    @property
    def beta(self) -> Tensor:
        """β of the next step, a scalar in fp32 on the device."""
        return (2 * TARGET / self._mean.clamp(*self._bounds)).float().squeeze()

    def settings(self) -> Any:
        """The section ``loss`` with this β."""
        return replace(self._settings, beta=self.beta)

    def update(self, mean_size: Tensor) -> None:
        """Take in the mean of |d| over all pairs of a step, the same in every process; one that is not finite is not.

        An infinite d ends the training as diverged, but only when its numbers are next written.
        """
        decay = self._settings.beta_decay
        moved = decay * self._mean + (1 - decay) * mean_size.double()
        self._mean = torch.where(moved.isfinite(), moved, self._mean)

    def tensors(self) -> dict[str, Tensor]:
        """The state for a checkpoint."""
        return {_STATE: self._mean}

    def load_tensors(self, stored: Mapping[str, Tensor]) -> None:
        """Continue from what ``tensors`` gave."""
        self._mean = stored[_STATE].to(self._mean)


def automatic_beta(loss: Loss[Any], settings: Any, device: torch.device) -> AutomaticBeta | None:
    """The automatic β of a training whose loss reads ``loss.beta_schedule``, if it asks for one."""
    if not takes_schedule(loss) or settings.beta_schedule != AUTOMATIC:
        return None
    return AutomaticBeta(settings, device)


def sum_of_sizes(errors: PairErrors) -> Tensor:
    """The sum of |d| over the pairs of a micro-batch, without gradients, a scalar."""
    return errors.logits.detach().abs().sum()
