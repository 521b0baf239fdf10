"""SLiC-HF as first written (Zhao et al. 2023, arXiv 2305.10425), with -e in the place of a log-likelihood.

    L = max(0, δ - β/2 · (e_θ^l - e_θ^w)) + λ e_θ^w

No reference: the winner's error, weighted by λ = ``loss.slic_weight``, holds the model instead. β multiplies half the
difference of the *model's* errors; δ = ``loss.slic_margin`` is in units of that product. The paper has no
diffusion form; this translation is ours. The untouched model's errors differ by the images alone, so β and δ decide
which pairs count.
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
    """β, the margin to reach and the weight of the winner's error."""

    slic_margin: float = meaning(1.0, "delta of slic_rank", above=0)
    slic_weight: float = meaning(1.0, "lambda of slic_rank: of the winner's error beside the rank term", least=0)


def slic_rank(errors: PairErrors, settings: Settings) -> Tensor:
    """Loss per pair, [B], fp32, ≥ 0."""
    rank = (settings.slic_margin + half_beta(settings) * errors.margin).relu()
    return rank + settings.slic_weight * errors.winner


LOSS = Loss(slic_rank, Settings, needs_reference=False, factor=half_beta)
