"""IPO (Azar et al. 2023, arXiv 2310.12036; diffusers' DPO script, ``loss_type="ipo"``).

    L = (d - 1/(2τ))^2

A target for d instead of a sigmoid: pairs beyond 1/(2τ) pull back, so labels are never fitted without limit. There is
no β; τ = ``loss.ipo_tau``. 100 is the default of the Adaptive-DPO code (target d = 0.005); the diffusers script
reads an option that it never defines. For comparison, ``slic`` with β stops at d = 2/β, which is τ = β/4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.config.fields import meaning
from qsd.losses import Loss, PairErrors

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Settings:
    """The target for d."""

    ipo_tau: float = meaning(100.0, "ipo pulls d to 1 / (2 tau); 100 is the public default", above=0)


def ipo(errors: PairErrors, settings: Settings) -> Tensor:
    """Loss per pair, [B], fp32, ≥ 0; 1/(4τ²) at d = 0.

    Raises:
        ValueError: without reference errors.
    """
    return (errors.logits - 1 / (2 * settings.ipo_tau)).square()


LOSS = Loss(ipo, Settings)
