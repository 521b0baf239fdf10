"""Robust DPO (Ray Chowdhury, Kini, Natarajan 2024, arXiv 2403.00409; the same in TRL and in the Adaptive-DPO code).

    L = [-(1-ε) log σ(β/2 · d) + ε log σ(-β/2 · d)] / (1 - 2ε)        0 ≤ ε < 1/2

The mean of L over labels that were flipped with probability ε is the DPO loss of the true labels. ε =
``loss.label_noise``; β multiplies half of d, as in ``dpo``; ε = 0 is ``dpo``. L has no lower bound for ε > 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.losses import Beta, LabelNoise, Loss, PairErrors, half_beta

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Settings(Beta, LabelNoise):
    """β and the assumed share of flipped labels."""


def rdpo(errors: PairErrors, settings: Settings) -> Tensor:
    """Loss per pair, [B], fp32; log 2 at d = 0 for every ε; the derivative by β/2 · d is in [-(1-ε), -ε] / (1 - 2ε).

    Raises:
        ValueError: without reference errors.
    """
    from torch.nn.functional import softplus

    scaled = half_beta(settings) * errors.logits
    noise = settings.label_noise
    return ((1 - noise) * softplus(-scaled) - noise * softplus(scaled)) / (1 - 2 * noise)


LOSS = Loss(rdpo, Settings, factor=half_beta)
