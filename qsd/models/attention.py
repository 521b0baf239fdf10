"""Attention kernels."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


@contextmanager
def training_attention(device: torch.device) -> Iterator[None]:
    """Kernels for training: on a CPU the math kernel, whose backward is the faster one; elsewhere PyTorch's choice."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    context: Any = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with context:
        yield
