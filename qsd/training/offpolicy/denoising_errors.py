"""The denoising errors of a batch of pairs: all that a loss ever sees."""

from __future__ import annotations

import torch
from torch import Tensor

from qsd.losses import PairErrors
from qsd.models.adapter import reference
from qsd.models.denoiser import Denoiser
from qsd.models.precision import autocast_for
from qsd.training.offpolicy.batches import PairBatch

Errors = tuple[Tensor, Tensor]
"""(winner, loser), [B] fp32 each: mean over C, H, W of (target - prediction)^2."""


def pair_errors(
    denoiser: Denoiser,
    batch: PairBatch,
    needs_reference: bool,
    precision: str,
    known: Errors | None = None,
    averaged: tuple[Errors, ...] = (),
    needs_loser: bool = True,
) -> PairErrors:
    """Errors of the model in training (with gradients) and of the reference, which is the same network without adapter.

    Winner and loser have the same timestep and noise and go through the network in one batch, unless the loss needs no
    loser; model and reference see the same input through the same kernels, so that a fresh adapter gives equal errors.

    Args:
        denoiser: network with adapter, and noise schedule.
        batch: B pairs.
        needs_reference: False spares the reference pass.
        precision: of the forward pass: ``fp32`` or ``bf16`` (autocast). The reduction is always fp32.
        known: the reference errors, when they were computed before.
        averaged: errors of moving averages of the adapter, passed on to the loss.
        needs_loser: False spares the backward pass through the loser.
    """
    ref_winner, ref_loser = None, None
    if needs_reference:
        ref_winner, ref_loser = known or reference_errors(denoiser, batch, precision)
    winner, loser = trained_errors(denoiser, batch, needs_loser, precision)
    timesteps = batch.timesteps[: len(batch.pair_ids)]
    return PairErrors(winner, loser, ref_winner, ref_loser, averaged, timesteps=timesteps)


def trained_errors(denoiser: Denoiser, batch: PairBatch, needs_loser: bool, precision: str) -> Errors:
    """Errors of the model in training: of the winner with gradients, of the loser only where the loss needs them."""
    if needs_loser:
        return model_errors(denoiser, batch, precision)
    pairs = len(batch.pair_ids)
    winner = _image_errors(denoiser, batch, slice(None, pairs), precision)
    with torch.no_grad():
        loser = _image_errors(denoiser, batch, slice(pairs, None), precision)
    return winner, loser


def model_errors(denoiser: Denoiser, batch: PairBatch, precision: str) -> Errors:
    """Errors of the network as it is."""
    winner, loser = _image_errors(denoiser, batch, slice(None), precision).chunk(2)
    return winner, loser


def reference_errors(denoiser: Denoiser, batch: PairBatch, precision: str) -> Errors:
    """Errors of the base model, without gradients."""
    with torch.no_grad(), reference(denoiser.network):
        return model_errors(denoiser, batch, precision)


def _image_errors(denoiser: Denoiser, batch: PairBatch, images: slice, precision: str) -> Tensor:
    """Errors of some of the images of a batch, [n]."""
    latents, noise, timesteps = batch.latents[images], batch.noise[images], batch.timesteps[images]
    conditioning = {name: tensor[images] for name, tensor in batch.conditioning.items()}
    noisy = denoiser.process.add_noise(latents, noise, timesteps)
    with autocast_for(noisy.device.type, precision):
        prediction = denoiser.predict(noisy, timesteps, conditioning)
    target = denoiser.process.target(latents, noise, timesteps)
    return (target - prediction.float()).square().mean(dim=(1, 2, 3))
