"""Linear-DPO (arXiv 2605.21123; WhynotChen0105/Linear-DPO, train_sd3_dpo.py): DPO's weight as a straight line.

    L = w · (e_θ^w - e_θ^l)        w = clip(1/2 - 0.4 · β/2 · d, η, 1 - η), without gradient

DPO's gradient is β/2 · σ(-β/2 · d) times that of e^w - e^l; here the sigmoid is a line of slope 0.4 that is cut off at
η and 1 - η (``loss.linear_floor``), and the factor in front of it, which clipping and AdamW remove, is left out. So no
pair is ever given up, and none is trusted without limit. β multiplies half of d, as in ``dpo``: the published 0.2 · β.

With ``loss.linear_decay`` d compares the model with a moving average of its adapter, which follows it, instead of the
base model: the published 0.99. The average is warmed up (``qsd.training.ema``), which the published one is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.config.fields import meaning
from qsd.losses import Beta, Loss, PairErrors, half_beta

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Settings(Beta):
    """β, how far the weight goes, and what the model is compared with."""

    linear_floor: float = meaning(
        1e-3, "eta of linear_dpo: a pair's weight is in [eta, 1 - eta]; 0 lets pairs drop out", least=0, below=0.5
    )
    linear_decay: float | None = meaning(
        None,
        "of the moving average that linear_dpo takes as its reference, published 0.99; null: the base model",
        least=0,
        below=1,
    )


SLOPE = 0.4
"""Of the weight by β/2 · d. The sigmoid's own slope at 0 is 1/4; the line reaches 0 and 1 at β/2 · d = ±1.25."""


def linear_dpo(errors: PairErrors, settings: Settings) -> Tensor:
    """Loss per pair, [B], fp32, of either sign; half of e_θ^w - e_θ^l at d = 0.

    Raises:
        ValueError: without reference errors, or without the moving average that ``loss.linear_decay`` asks for.
    """
    floor = settings.linear_floor
    weight = (0.5 - SLOPE * half_beta(settings) * _logits(errors, settings)).clamp(floor, 1 - floor)
    return weight * errors.margin


def _logits(errors: PairErrors, settings: Settings) -> Tensor:
    """d, [B], without gradients: how much more the model favours the winner than its reference does."""
    if settings.linear_decay is None:
        return errors.logits.detach()
    if not errors.averaged:
        raise ValueError("linear_dpo needs the errors of its moving average in errors.averaged")
    # Both are compared with the base model, so their difference compares the one with the other.
    return errors.logits.detach() - errors.averaged_logits()[0]


def _decays(settings: Settings) -> tuple[float, ...]:
    return () if settings.linear_decay is None else (settings.linear_decay,)


LOSS = Loss(linear_dpo, Settings, averages=_decays, factor=half_beta)
