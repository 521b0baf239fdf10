"""Losses: a value per pair from the denoising errors of the pair. One file per loss.

β has one convention in every loss that reads it: β/2 multiplies a difference of errors, each a mean over the elements
of a latent. ``docs/losses.md`` has all formulas side by side.
"""

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

    Attributes:
        winner: of the model in training, with gradients.
        loser: likewise, same timestep and noise; without gradients when the loss needs no loser.
        ref_winner: of the frozen reference; None when the loss needs no reference.
        ref_loser: likewise.
        averaged: (winner, loser) of each moving average of the adapter that the loss asks for, without gradients.
        statistics: [S], what ``Loss.statistics`` made of all pairs of the optimiser step; None for other losses.
    """

    winner: Tensor
    loser: Tensor
    ref_winner: Tensor | None = None
    ref_loser: Tensor | None = None
    averaged: tuple[tuple[Tensor, Tensor], ...] = ()
    statistics: Tensor | None = None

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
        return self._reference_margin() - self.margin

    def averaged_logits(self) -> tuple[Tensor, ...]:
        """d of each moving average of the adapter, [B] each, without gradients.

        Raises:
            ValueError: without reference errors.
        """
        return tuple(self._reference_margin() - (winner - loser) for winner, loser in self.averaged)

    def _reference_margin(self) -> Tensor:
        if self.ref_winner is None or self.ref_loser is None:
            raise ValueError("the logits need reference errors; set needs_reference=True on the loss")
        return self.ref_winner - self.ref_loser


@dataclass(frozen=True)
class Loss:
    """A loss.

    Attributes:
        function: (errors, settings) -> loss per pair [B], float32.
        fields: the fields of ``loss`` that this function reads; others do not enter its key.
        needs_reference: False spares the reference pass.
        needs_loser: False: the loser's error is only reported, so it is computed without gradients.
        version: raised whenever the same errors give another value.
        statistics: for a loss coupled over the batch: (detached errors of all pairs of the optimiser step, over
            micro-batches and processes, in order of position; settings) -> [S], which ``function`` then finds in
            ``errors.statistics``. So a result never depends on the size of the micro-batch.
        averages: settings -> decays of the moving averages of the adapter whose errors the loss reads.
        factor: settings -> what multiplies a difference of errors inside the loss's nonlinearity; None for a loss that
            is linear in the errors. Printed before training, because public codes mean different things by β.
    """

    function: Callable[[PairErrors, LossConfig], Tensor]
    fields: tuple[str, ...] = ()
    needs_reference: bool = True
    needs_loser: bool = True
    version: int = 1
    statistics: Callable[[PairErrors, LossConfig], Tensor] | None = None
    averages: Callable[[LossConfig], tuple[float, ...]] | None = None
    factor: Callable[[LossConfig], float] | None = None


def half_beta(settings: LossConfig) -> float:
    """β/2, the factor of every loss in the convention of the Diffusion-DPO code."""
    return 0.5 * settings.beta


REGISTRY: Registry[Loss] = Registry("loss", "qsd.losses", "LOSS")
