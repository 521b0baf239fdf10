"""The four denoising errors of a batch of pairs: all that a loss ever sees."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from qsd.losses import PairErrors
from qsd.models.adapter import reference

if TYPE_CHECKING:
    from torch import Tensor

    from qsd.models.denoiser import Denoiser
    from qsd.training.batches import PairBatch


def pair_errors(denoiser: Denoiser, batch: PairBatch, needs_reference: bool, precision: str) -> PairErrors:
    """Errors of the model in training (with gradients) and of the reference, which is the same UNet without adapter.

    Winner and loser go through the UNet in one batch with the same timestep and noise; model and reference see the same
    input through the same kernels, so that a fresh adapter gives equal errors.

    Args:
        denoiser: UNet with adapter, and noise schedule.
        batch: B pairs.
        needs_reference: False spares the reference pass.
        precision: of the forward pass: ``fp32`` or ``bf16`` (autocast). The reduction is always fp32.
    """
    import torch

    noisy = denoiser.add_noise(batch.latents, batch.noise, batch.timesteps)
    target = denoiser.target(batch.latents, batch.noise, batch.timesteps)

    def errors() -> Tensor:
        with _compute(noisy.device.type, precision):
            prediction = denoiser.predict(noisy, batch.timesteps, batch.conditioning)
        return (target - prediction.float()).square().mean(dim=(1, 2, 3))

    ref_winner, ref_loser = None, None
    if needs_reference:
        with torch.no_grad(), reference(denoiser.unet):
            ref_winner, ref_loser = errors().chunk(2)
    winner, loser = errors().chunk(2)
    return PairErrors(winner, loser, ref_winner, ref_loser)


def _compute(device_type: str, precision: str) -> AbstractContextManager[object]:
    import torch

    return torch.autocast(device_type, torch.bfloat16) if precision == "bf16" else nullcontext()
