"""The numbers that a model computes in. fp16 is not offered: SDXL's VAE overflows in it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def torch_type(precision: str) -> torch.dtype:
    """The type of weights in ``fp32`` or ``bf16``."""
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def autocast_for(device_type: str, precision: str) -> AbstractContextManager[object]:
    """For a forward pass: autocast in ``bf16``, which keeps norms and sums in fp32; nothing in ``fp32``."""
    return torch.autocast(device_type, torch.bfloat16) if precision == "bf16" else nullcontext()
