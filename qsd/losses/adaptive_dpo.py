"""Adaptive-DPO (Zhang et al. 2025, arXiv 2503.16921; fanfanffff1/Adaptive-DPO, dpo_train_un.py).

    L = -W log σ(β/2 · d - Γ)        W = 1 / (c u + b), Γ = D - u² / (β/2), by default

u is the minority metric of ``qsd.losses._annotators``: three annotators (the model and two moving averages of its
adapter), their confidence times their stability. W lowers the weight of suspect pairs, Γ their margin; D is the mean
of d. W and Γ carry no gradients. β multiplies half of d, as in ``dpo``: the recipe's 1000 is 2000 here. The
published code is ``adaptive_normalizer: micro_batch`` with ``adaptive_margin: quadratic`` (and every other default);
the default normaliser differs from it in not depending on how a step is cut into micro-batches. c = 0, b = 1 and no
margin is ``dpo``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.losses import Loss, PairErrors, half_beta
from qsd.losses._annotators import Settings, margin, minority, step_statistics, weight

if TYPE_CHECKING:
    from torch import Tensor


def adaptive_dpo(errors: PairErrors, settings: Settings) -> Tensor:
    """Loss per pair, [B], fp32, ≥ 0; log 2 at d = 0 with the default intercept.

    Raises:
        UserError: the published normaliser with another micro-batch than ``loss.adaptive_group``.
        ValueError: without reference errors, moving averages, or the statistics of the step.
    """
    from torch.nn.functional import softplus

    if errors.statistics is None:
        raise ValueError("adaptive_dpo needs the statistics of the whole step in errors.statistics")
    metric = minority(errors, settings)
    shift = margin(metric, errors.logits, errors.statistics, settings)
    return weight(metric, settings) * softplus(shift - half_beta(settings) * errors.logits)


def _decays(settings: Settings) -> tuple[float, ...]:
    return tuple(settings.adaptive_decays)


LOSS = Loss(adaptive_dpo, Settings, statistics=step_statistics, averages=_decays, factor=half_beta)
