"""Losses: a value per pair from the four denoising errors of the pair. One file per loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from qsd.config.schema import LossConfig


@dataclass(frozen=True)
class PairErrors:
    """Denoising errors of a batch of pairs: mean over C, H, W of (target - prediction)^2, float32, shape [B].

    ``winner`` and ``loser`` are of the model in training and carry gradients; ``ref_winner`` and ``ref_loser`` are of
    the frozen reference with the same timestep and noise, None when the loss needs no reference.
    """

    winner: Tensor
    loser: Tensor
    ref_winner: Tensor | None = None
    ref_loser: Tensor | None = None

    @property
    def margin(self) -> Tensor:
        """m = e_w - e_l of the model, [B]; negative when the winner is denoised better."""
        return self.winner - self.loser

    @property
    def logits(self) -> Tensor:
        """d = r - m, [B]: positive when the model favours the winner more than the reference does.

        Raises:
            ValueError: without reference errors.
        """
        if self.ref_winner is None or self.ref_loser is None:
            raise ValueError("the logits need reference errors; set needs_reference=True on the loss")
        return (self.ref_winner - self.ref_loser) - self.margin


@dataclass(frozen=True)
class Loss:
    """A loss.

    Attributes:
        function: (errors, settings) -> loss per pair [B], float32.
        fields: the fields of ``loss`` that this function reads; others do not enter its key.
        needs_reference: False spares the reference pass.
        version: raised whenever the same errors give another value.
    """

    function: Callable[[PairErrors, LossConfig], Tensor]
    fields: tuple[str, ...] = ()
    needs_reference: bool = True
    version: int = 1


REGISTRY: Registry[Loss] = Registry("loss", "qsd.losses", "LOSS")
