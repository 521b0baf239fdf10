"""Conservative DPO: DPO with smoothed labels (Mitchell 2023, "A note on DPO with noisy preferences").

    L = -(1-ε) log σ(β/2 · d) - ε log σ(-β/2 · d)        0 ≤ ε < 1/2

ε = ``loss.label_noise`` is the assumed share of flipped labels (in the Adaptive-DPO code, ``label_smoothing`` with
``loss_type="conservative"``, 0). β multiplies half of d, as in ``dpo``; ε = 0 is ``dpo``. The smallest loss is at
β/2 · d = log((1-ε)/ε): beyond it a pair pulls back, so no pair is trusted without limit.
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


def cdpo(errors: PairErrors, settings: Settings) -> Tensor:
    """Loss per pair, [B], fp32, > 0; log 2 at d = 0 for every ε.

    Raises:
        ValueError: without reference errors.
    """
    from torch.nn.functional import softplus

    scaled = half_beta(settings) * errors.logits
    noise = settings.label_noise
    return (1 - noise) * softplus(-scaled) + noise * softplus(scaled)


LOSS = Loss(cdpo, Settings, factor=half_beta)
