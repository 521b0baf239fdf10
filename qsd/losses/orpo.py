"""ORPO for diffusion models, with the sign of its paper (Hong, Lee, Thorne 2024, arXiv 2403.07691).

    L = e_θ^w - λ log σ(β/2 · (e_θ^l - e_θ^w))

No reference. λ = ``loss.ratio_weight`` (0.1, β_orpo of the diffusers script); β multiplies half the difference of the
*model's* errors. An error is a cost: -e stands for a log-probability, so the term must fall when the winner's error
falls. The public diffusers script has e^w - e^l inside the sigmoid, which rewards the reverse, and no factor on it: do
not compare with it. The denominator of the odds, log(1 - exp(-β/2 · e)), is left out: it is 0 to fp32 at usual errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.losses import Beta, Loss, PairErrors, RatioWeight, half_beta

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Settings(Beta, RatioWeight):
    """β and the weight of the preference term."""


def orpo(errors: PairErrors, settings: Settings) -> Tensor:
    """Loss per pair, [B], fp32, ≥ 0."""
    from torch.nn.functional import softplus

    return errors.winner + settings.ratio_weight * softplus(half_beta(settings) * errors.margin)


LOSS = Loss(orpo, Settings, needs_reference=False, factor=half_beta)
