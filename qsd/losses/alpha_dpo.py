"""α-DPO: the α-divergence in the place of DPO's forward KL (ICLR 2026; yangli-lab/Diffusion_alpha-DPO_ICLR2026).

    p = σ(β/2 · d)        L = (p^α - (1-α) - α p) / (α (α-1))        0 < α < 1

β multiplies half of d, as in ``dpo`` (the code's launcher: 4000). The derivative by β/2 · d is -(p^α - p)(1-p)/(1-α),
which vanishes for p → 0: a pair that the model firmly contradicts is given up, where DPO pulls hardest. α → 0 gives
-log p + p - 1. ``loss.alpha_schedule``: ``step_mean`` is α = ``loss.alpha`` · mean of p over the step, without gradient
(the launcher's setting, whose mean is over one micro-batch of all processes); ``constant`` is ``loss.alpha``, which the
code has for its first ``reweight_step`` steps.
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
    """β and the divergence."""

    alpha: float = meaning(0.9999, "of alpha_dpo's divergence, before its schedule", above=0, below=1)
    alpha_schedule: str = meaning(
        "step_mean", "alpha times the mean sigmoid over the step, or alpha alone", choices=("step_mean", "constant")
    )


LEAST_ALPHA = 1e-4
"""Below it L is DPO's -log p + p - 1 to four digits, and 1/α would only lose precision."""


def step_alpha(errors: PairErrors, settings: Settings) -> Tensor:
    """α of a step, [1], in [``LEAST_ALPHA``, 1), without gradient.

    Raises:
        ValueError: without reference errors.
    """
    import torch

    agreement = torch.sigmoid(half_beta(settings) * errors.logits.detach()).mean()
    scale = agreement if settings.alpha_schedule == "step_mean" else torch.ones_like(agreement)
    return (settings.alpha * scale).clamp_min(LEAST_ALPHA).reshape(1)


def alpha_dpo(errors: PairErrors, settings: Settings) -> Tensor:
    """Loss per pair, [B], fp32, in [0, 1/α]; α is ``errors.statistics``. In double inside: α near 1 cancels.

    Raises:
        ValueError: without reference errors, or without α.
    """
    import torch
    from torch.nn.functional import logsigmoid

    if errors.statistics is None:
        raise ValueError("alpha_dpo needs alpha of the whole step in errors.statistics")
    alpha = errors.statistics[0].double()
    scaled = half_beta(settings) * errors.logits.double()
    loss = -(torch.expm1(alpha * logsigmoid(scaled)) / alpha + torch.sigmoid(-scaled)) / (1 - alpha)
    return loss.float()


LOSS = Loss(alpha_dpo, Settings, statistics=step_alpha, factor=half_beta)
