"""The hinge of SLiC-HF with a reference (diffusers' DPO script, ``loss_type="hinge"``; the same in TRL).

    L = max(0, 1 - β/2 · d)

β multiplies half of d, as in ``dpo``; diffusers' 2500 is 5000 here. A pair has its full gradient until d = 2/β and none
after it. SLiC-HF's own form, without a reference, is ``slic_rank``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.losses import Beta, Loss, PairErrors, half_beta

if TYPE_CHECKING:
    from torch import Tensor


def slic(errors: PairErrors, settings: Beta) -> Tensor:
    """Loss per pair, [B], fp32, ≥ 0; exactly 1 at d = 0.

    Raises:
        ValueError: without reference errors.
    """
    return (1 - half_beta(settings) * errors.logits).relu()


LOSS = Loss(slic, Beta, factor=half_beta)
