"""Losses: a value per pair from the denoising errors of the pair. One file per loss.

A loss file defines ``LOSS``: its function, and the dataclass of the settings that it reads (``Beta``, another of this
file, or a ``Settings`` of its own with fields made by ``qsd.config.fields.meaning``). These settings are then fields of
the section ``loss`` of every experiment, under one name for all losses that share them.

β has one convention in every loss that reads it: β/2 multiplies a difference of errors, each a mean over the elements
of a latent. ``docs/losses.md`` has all formulas side by side.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from qsd.config.fields import meaning
from qsd.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

S = TypeVar("S")
"""The class of a loss's settings."""


@dataclass
class Beta:
    """For losses that scale a difference of errors by β."""

    beta: float = meaning(5000.0, "-log sigmoid(beta/2 * d), the convention of the Diffusion-DPO code", above=0)


@dataclass
class LabelNoise:
    """For losses that allow for wrong labels."""

    label_noise: float = meaning(0.1, "share of flipped labels that cdpo and rdpo assume", least=0, below=0.5)


@dataclass
class RatioWeight:
    """For losses that add a preference term to the winner's error."""

    ratio_weight: float = meaning(0.1, "of the preference term beside the winner's error (orpo, mapo)", above=0)


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
        timesteps: [B], the diffusion time at which both images of each pair were noised; None on-policy.
        scale: [B], multiplies ``margin`` and ``logits``: 1 / (2 σ²) of a sampler step turns squared errors into a
            difference of log-probabilities. None is 1.
    """

    winner: Tensor
    loser: Tensor
    ref_winner: Tensor | None = None
    ref_loser: Tensor | None = None
    averaged: tuple[tuple[Tensor, Tensor], ...] = ()
    statistics: Tensor | None = None
    timesteps: Tensor | None = None
    scale: Tensor | None = None

    @property
    def margin(self) -> Tensor:
        """m = e_w - e_l of the model, [B]; negative when the winner is denoised better."""
        return self._scaled(self.winner - self.loser)

    @property
    def logits(self) -> Tensor:
        """d = r - m, [B]: positive when the model favours the winner more than the reference does.

        Raises:
            ValueError: without reference errors.
        """
        return self._scaled(self._reference_margin() - (self.winner - self.loser))

    def averaged_logits(self) -> tuple[Tensor, ...]:
        """d of each moving average of the adapter, [B] each, without gradients.

        Raises:
            ValueError: without reference errors.
        """
        return tuple(self._scaled(self._reference_margin() - (winner - loser)) for winner, loser in self.averaged)

    def _scaled(self, difference: Tensor) -> Tensor:
        return difference if self.scale is None else self.scale * difference

    def _reference_margin(self) -> Tensor:
        if self.ref_winner is None or self.ref_loser is None:
            raise ValueError("the logits need reference errors; set needs_reference=True on the loss")
        return self.ref_winner - self.ref_loser


@dataclass(frozen=True)
class Loss(Generic[S]):
    """A loss.

    Attributes:
        function: (errors, settings) -> loss per pair [B], float32.
        settings: dataclass of the settings that the function reads; others of the section do not enter its key.
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

    function: Callable[[PairErrors, S], Tensor]
    settings: type[S]
    needs_reference: bool = True
    needs_loser: bool = True
    version: int = 1
    statistics: Callable[[PairErrors, S], Tensor] | None = None
    averages: Callable[[S], tuple[float, ...]] | None = None
    factor: Callable[[S], float] | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the settings."""
        return tuple(item.name for item in dataclasses.fields(self.settings))  # type: ignore[arg-type]


def half_beta(settings: Beta) -> float:
    """β/2, the factor of every loss in the convention of the Diffusion-DPO code."""
    return 0.5 * settings.beta


REGISTRY: Registry[Loss[Any]] = Registry("loss", "qsd.losses", "LOSS")
