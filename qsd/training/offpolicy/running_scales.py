"""The scales of ``loss.adaptive_normalizer: timestep``: a running root mean square of every d_k by bin of timesteps.

    S_b ← γ S_b + Σ d_k²        N_b ← γ N_b + number of pairs        scale_b = √(S_b / N_b)        γ = 0.9 per step

The sums are over the pairs of the optimiser step whose timestep is in bin b (``qsd.losses._annotators.bins``). They
begin at zero and contain the step itself, so no bin that is read is empty; a bin without pairs in a step keeps its
scale. Like ``Loss.statistics`` they are made of the errors of the whole step in order of position, so that they are the
same in every process and do not depend on micro-batches. The sums are part of the checkpoint, in fp64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from qsd.losses._annotators import BINS, TIMESTEP, Settings, annotators, bin_scales, bin_sums

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from qsd.losses import Loss, PairErrors

DECAY = 0.9
"""Per step: a scale follows about the last ten steps, as d grows during a training."""
_STATE = "squares_of_d_by_bin"


class RunningScales:
    """The running sums, and the scales that they make.

    Args:
        count: annotators, the current model among them.
        device: where the losses are computed.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self._sums = torch.zeros(1 + count, BINS, dtype=torch.float64, device=device)

    def update(self, errors: PairErrors) -> Tensor:
        """Take in all pairs of a step, once for each; returns the scales, [K · BINS], fp32.

        Raises:
            ValueError: the errors have no timesteps.
        """
        self._sums = DECAY * self._sums + bin_sums(annotators(errors), errors.timesteps)
        return bin_scales(self._sums).flatten()

    def tensors(self) -> dict[str, Tensor]:
        """The state for a checkpoint."""
        return {_STATE: self._sums}

    def load_tensors(self, stored: Mapping[str, Tensor]) -> None:
        """Continue from what ``tensors`` gave."""
        self._sums = stored[_STATE].to(self._sums)


def running_scales(loss: Loss[Any], settings: Any, device: torch.device) -> RunningScales | None:
    """The scales of a training whose loss has annotators, if it asks for scales by timestep."""
    if not issubclass(loss.settings, Settings) or settings.adaptive_normalizer != TIMESTEP:
        return None
    return RunningScales(1 + len(settings.adaptive_decays), device)
