"""Diffusion-DPO (Wallace et al. 2023, arXiv 2311.12908; SalesforceAIResearch/DiffusionDPO, train.py).

    L = -log σ(β/2 · d)        d = (e_ref^w - e_ref^l) - (e_θ^w - e_θ^l)

β is in the convention of the official code: it multiplies half the difference of mean errors per element. The diffusers
script has no half: its 2500 is 5000 here. A fresh adapter has d = 0 and L = log 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.losses import Beta, Loss, PairErrors, half_beta

if TYPE_CHECKING:
    from torch import Tensor


def dpo(errors: PairErrors, settings: Beta) -> Tensor:
    """Loss per pair, [B], fp32, ≥ 0; the default β is 5000.

    Raises:
        ValueError: without reference errors.
    """
    from torch.nn.functional import softplus

    return softplus(-half_beta(settings) * errors.logits)


LOSS = Loss(dpo, Beta, factor=half_beta)
