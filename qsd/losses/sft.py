"""Supervised fine-tuning on the winner (the control of every preference loss; DiffusionDPO's --sft).

    L = e_θ^w

No β, no reference; the loser has no influence: its error is reported only, and computed without gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.config.members import NoSettings
from qsd.losses import Loss, PairErrors

if TYPE_CHECKING:
    from torch import Tensor


def sft(errors: PairErrors, settings: NoSettings) -> Tensor:
    """Loss per pair, [B], fp32, ≥ 0: the winner's denoising error."""
    return errors.winner


LOSS = Loss(sft, NoSettings, needs_reference=False, needs_loser=False)
