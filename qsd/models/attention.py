"""The attention kernels of the training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

_BACKENDS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


@contextmanager
def training_attention(device: torch.device, kernels: str = "auto") -> Iterator[None]:
    """Inside, attention uses the kernels that ``training.attention`` names.

    ``auto`` is the math kernel on a CPU, whose backward is the faster one, and PyTorch's choice elsewhere. A named
    kernel is the only one allowed: PyTorch raises where it cannot compute the model's shapes or type.
    """
    if kernels == "auto":
        kernels = "math" if device.type == "cpu" else ""
    context: Any = sdpa_kernel(_BACKENDS[kernels]) if kernels else nullcontext()
    with context:
        yield
