"""PickScore: cross-entropy with soft labels, every caption counting equally.

Source: Kirstain et al., "Pick-a-Pic", arXiv 2305.01569; yuvalkirstain/PickScore ``trainer/criterions/
clip_criterion.py``, whose in-batch negatives are off by default and are not here. A choice weighs 1 / (choices of its
caption), normalised over the whole batch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qsd.reward_training.losses import ChoiceLoss
from qsd.reward_training.losses.hps import cross_entropy

if TYPE_CHECKING:
    from torch import Tensor


def soft_cross_entropy(scores: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy, plus log 0.5 for a tie (label 0.5), so that the ideal is 0: scores [B, 2] -> fp32 [B], ≥ 0."""
    return cross_entropy(scores, label) + (label == 0.5).float() * math.log(0.5)


LOSS = ChoiceLoss(soft_cross_entropy, weights=lambda of_caption: 1.0 / of_caption, ties=True)
