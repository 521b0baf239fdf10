"""metrics.jsonl of a reward model's training: one row per step, free of times and places."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

FILE = "metrics.jsonl"
SUMS = ("loss", "correct", "preferred", "margin")
"""What a step adds up over its choices: weighted loss, preferred choices that score right, their number, s_w - s_l."""


def sums(losses: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """Sums over choices of what :data:`SUMS` names, fp32 [4].

    Args:
        losses: weighted, [B].
        scores: [B, 2].
        labels: [B], 1 where the first is preferred, 0.5 for a tie, which is neither right nor wrong.
    """
    import torch

    with torch.no_grad():
        preferred = (labels != 0.5).float()
        margin = (scores[:, 0] - scores[:, 1]).float()
        values = (losses, (margin > 0) * preferred, preferred, margin * preferred)
        return torch.stack([value.float().sum() for value in values])
