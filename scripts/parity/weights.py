"""Random weights that are the same on every machine and library version, so checkpoints need not be committed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def weight(name: str, shape: Sequence[int]) -> torch.Tensor:
    """fp32 weights of the tensor ``name``, from the raw bits of a PCG64 seeded with the name.

    Matrices are uniform with variance 1 / fan-in, scales of norms are around 1, everything else around 0.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    count = int(np.prod(shape)) if len(shape) else 1
    unit = (np.random.PCG64(seed).random_raw(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    signed = torch.from_numpy((2 * unit - 1).astype(np.float32)).reshape(tuple(shape))
    if name.endswith("logit_scale"):
        return torch.tensor(4.6052)
    if len(shape) >= 2:
        return signed * (3.0 / (count / shape[0])) ** 0.5
    is_scale = name.endswith("weight") and any(word in name.lower() for word in ("norm", "ln_", "layrnorm"))
    return 1 + 0.2 * signed if is_scale else 0.2 * signed


def checkpoint(layout: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
    """Tensors of all names and shapes of a ``layout``."""
    return {name: weight(name, shape) for name, shape in layout.items()}


def layout_of(state: Mapping[str, torch.Tensor]) -> dict[str, list[int]]:
    """Names and shapes of the floating point tensors of a state dictionary."""
    return {name: list(tensor.shape) for name, tensor in state.items() if tensor.is_floating_point()}
