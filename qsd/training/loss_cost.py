"""What a loss costs: how often the images of a pair go through the denoiser, from what the loss declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from qsd.losses import Loss

BACKWARD = 1.1
"""Cost of a backward pass, in forward passes. The base model is frozen, so the gradient by its weights, half of a usual
backward pass, is not computed: 1.06 by counted operations for the emoji model with the adapter of its experiment."""


@dataclass(frozen=True)
class Passes:
    """What one pair costs.

    Attributes:
        trained: images that go forward and backward, 1 or 2.
        forward: forward passes of an image without gradients.
        calls: forward and backward calls of the denoiser that a micro-batch makes for it.
    """

    trained: int
    forward: int
    calls: int

    @property
    def forward_passes(self) -> float:
        """All of it, in forward passes of an image: 6.2 for ``dpo``, 3.1 for ``sft``."""
        return self.trained * (1 + BACKWARD) + self.forward


def passes_of(loss: Loss[Any], settings: Any, whole_steps: bool) -> Passes:
    """The passes of a training with a loss; reference errors found in the shared store are not subtracted.

    Args:
        loss: as registered.
        settings: tell how many moving averages it reads.
        whole_steps: every step is one micro-batch. Otherwise the statistics of a coupled loss take a pass of their own.
    """
    averages = len(loss.averages(settings)) if loss.averages else 0
    statistics = loss.statistics is not None and not whole_steps
    of_both = int(loss.needs_reference) + averages + int(statistics)
    of_loser = int(not loss.needs_loser)
    return Passes(trained=2 - of_loser, forward=2 * of_both + of_loser, calls=2 + of_both + of_loser)
