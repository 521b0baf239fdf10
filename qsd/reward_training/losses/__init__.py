"""Losses of a choice between two candidates. One file per member."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from qsd.reward_training.schema import ObjectiveConfig


@dataclass(frozen=True)
class ChoiceLoss:
    """A loss of choices; a step minimises ``scale · Σ w_i l_i / Σ w_i`` over its batch, whatever number of processes.

    Attributes:
        function: (scores [B, 2], label [B]: the probability that the first is preferred, 1 or 0.5) -> loss [B].
        weights: number of training choices with the same caption [B] -> weight w [B]; None gives all the same weight.
        scale: (section ``loss``, choices per step) -> what the mean is multiplied by; None is 1.
        ties: whether it learns from ties, labelled 0.5; else they are left out.
    """

    function: Callable[[Tensor, Tensor], Tensor]
    weights: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None
    scale: Callable[[ObjectiveConfig, int], float] | None = None
    ties: bool = False


REGISTRY: Registry[ChoiceLoss] = Registry("loss of choices", "qsd.reward_training.losses", "LOSS")
