"""Diffusion-KTO (Li et al. 2024, arXiv 2404.04465; jacklishufan/diffusion-kto, train_kto_sd_v1.5.py).

    g = e_ref - e_θ per image        z0 = max(0, mean of g over all images of the step)
    L = [λ_d (1 - σ(β/2 · (g^w - z0))) + λ_u (1 - σ(β/2 · (z0 - g^l)))] / 2

Winners are desirable (y = +1), losers undesirable (y = -1); each image is judged alone against z0, and a pair's loss is
the mean of its two. The utility is the sigmoid. β multiplies half of an image's g - z0: the code's 1000 is 2000 here.
z0 is without gradient and over the whole optimiser step, all micro-batches and processes; the code takes it over one
micro-batch of all processes.
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
    """β and the weights of the two kinds of images."""

    kto_desirable: float = meaning(1.0, "weight of winners in kto", above=0)
    kto_undesirable: float = meaning(1.0, "weight of losers in kto", above=0)


def _gains(errors: PairErrors) -> tuple[Tensor, Tensor]:
    """g of winners and losers, [B] each: how much better than the reference an image is denoised."""
    if errors.ref_winner is None or errors.ref_loser is None:
        raise ValueError("kto needs reference errors; set needs_reference=True on the loss")
    return errors.ref_winner - errors.winner, errors.ref_loser - errors.loser


def reference_point(errors: PairErrors, settings: Settings) -> Tensor:
    """z0, [1], ≥ 0, without gradient."""
    winner, loser = _gains(errors)
    return (0.5 * (winner + loser)).mean().detach().clamp_min(0).reshape(1)


def kto(errors: PairErrors, settings: Settings) -> Tensor:
    """Loss per pair, [B], fp32, in [0, (λ_d + λ_u) / 2]; z0 is ``errors.statistics``.

    Raises:
        ValueError: without reference errors, or without z0.
    """
    import torch

    if errors.statistics is None:
        raise ValueError("kto needs z0 of the whole step in errors.statistics")
    winner, loser = _gains(errors)
    zero, factor = errors.statistics[0], half_beta(settings)
    desirable = settings.kto_desirable * torch.sigmoid(factor * (zero - winner))
    undesirable = settings.kto_undesirable * torch.sigmoid(factor * (loser - zero))
    return 0.5 * (desirable + undesirable)


LOSS = Loss(kto, Settings, statistics=reference_point, factor=half_beta)
