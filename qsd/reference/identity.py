"""What a reference error is a function of, so that a stored one is used only where it would be computed again.

Two parts. ``environment_key``: the base model and everything that decides which bits a forward pass gives.
``fingerprints``: the input of the forward pass itself, by content. Pair id, draw index, seed, flip, caption dropout,
selection and encoding act on nothing but that input, so no setting can be forgotten, and cells share what they have in
common whatever else differs between them.

The number of pairs of a forward pass is part of the fingerprint. Kernels of another size round differently (fp32 on a
CPU: by 1e-6 of the error), and a logit is multiplied by thousands. At one size neither the neighbours nor the place of
a pair in its batch change a bit; ``tests/qsd/reference/test_reference.py`` holds that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sized
from typing import Any, Protocol

import diffusers
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from qsd.config.digest import hash_of, location_digest
from qsd.config.schema import ExperimentConfig

VERSION = 1
"""Raised whenever this package's own code gives another error for the same input."""


class PairInputs(Protocol):
    """The input of a forward pass over B pairs: images are [2B, ...], winners first, then losers in the same order."""

    @property
    def pair_ids(self) -> Sized:
        """One per pair."""

    @property
    def latents(self) -> Tensor:
        """[2B, C, h, w]."""

    @property
    def noise(self) -> Tensor:
        """[2B, C, h, w]."""

    @property
    def timesteps(self) -> Tensor:
        """[2B]."""

    @property
    def conditioning(self) -> Mapping[str, Tensor]:
        """[2B, ...] by field."""


def environment_key(config: ExperimentConfig, device: torch.device) -> dict[str, Any]:
    """Base model, dtype, kernels, versions and kind of device, as plain values."""
    training = config.training
    return {
        "version": VERSION,
        "model": location_digest(config.model.path),
        "precision": training.precision,
        "attention": training.attention,
        "channels_last": training.channels_last,
        "compile": "blocks" if training.compile else False,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "device": _kind(device, config.threads),
    }


def folder_name(config: ExperimentConfig, device: torch.device) -> str:
    """The folder for an environment: 32 hex digits, the hash of its ``environment_key``."""
    return hash_of(environment_key(config, device))


def fingerprints(batch: PairInputs) -> npt.NDArray[np.uint64]:
    """[B, 2]: 128 bits for each pair of a batch on the CPU, made of all that goes into its forward pass."""
    inputs = [batch.latents, batch.noise, batch.timesteps]
    inputs += [batch.conditioning[field] for field in sorted(batch.conditioning)]
    arrays = [np.ascontiguousarray(tensor.numpy()) for tensor in inputs]
    pairs = len(batch.pair_ids)
    form = repr([pairs, [(array.shape[1:], str(array.dtype)) for array in arrays]]).encode()
    prints = np.empty((pairs, 2), dtype=np.uint64)
    for place in range(pairs):
        total = hashlib.blake2b(form, digest_size=16, person=b"qsd reference")
        for array in arrays:
            total.update(array[place].data)
            total.update(array[place + pairs].data)
        prints[place] = np.frombuffer(total.digest(), dtype="<u8")
    return prints


def _kind(device: torch.device, threads: int) -> str:
    """A GPU by its name and libraries; a CPU by its instructions and the number of threads that share the sums."""
    cudnn: Any = torch.backends.cudnn
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return f"{name}, CUDA {torch.version.cuda}, cuDNN {cudnn.version()}"
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()}, {threads} threads"
