"""MaPO (Hong et al. 2024, arXiv 2406.06424; mapo-t2i/mapo, utils.py).

    L = e_θ^w - λ log σ(T · (f(e_θ^w) - f(e_θ^l)))        f(e) = s e / (exp(s e) - 1)

f falls with the error, from f(0) = 1 with slope -s/2. No reference and no β: λ = ``loss.ratio_weight`` (0.1, β_mapo),
T = ``loss.mapo_scale`` (1000, the number of timesteps) and s = ``loss.mapo_sharpness`` (0.5, snr_value). To first order
the sigmoid sees T s/2 times e^l - e^w: with the defaults 250, as β = 500 does in ``orpo``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.config.fields import meaning
from qsd.losses import Loss, PairErrors, RatioWeight

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Settings(RatioWeight):
    """The weight of the preference term, and the shape of its odds."""

    mapo_scale: float = meaning(1000.0, "of the difference of odds; the number of timesteps in mapo's code", above=0)
    mapo_sharpness: float = meaning(0.5, "s in f(e) = s e / (exp(s e) - 1); snr_value in mapo's code", above=0)


_SMALL = 1e-3


def mapo(errors: PairErrors, settings: Settings) -> Tensor:
    """Loss per pair, [B], fp32, ≥ 0."""
    from torch.nn.functional import softplus

    winner, loser = (_odds(settings.mapo_sharpness * error) for error in (errors.winner, errors.loser))
    return errors.winner + settings.ratio_weight * softplus(-settings.mapo_scale * (winner - loser))


def _odds(scaled: Tensor) -> Tensor:
    """x / (exp(x) - 1) for x ≥ 0: by its series near 0 (remainder x^4 / 720), without overflow far from it."""
    import torch

    far = scaled.clamp_min(_SMALL)
    exact = far * torch.exp(-far) / -torch.expm1(-far)
    return torch.where(scaled < _SMALL, 1 - scaled / 2 + scaled.square() / 12, exact)


def _factor(settings: Settings) -> float:
    """T s/2: the slope at small errors."""
    return 0.5 * settings.mapo_scale * settings.mapo_sharpness


LOSS = Loss(mapo, Settings, needs_reference=False, factor=_factor)
