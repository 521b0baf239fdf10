"""The numbers that a model computes in. fp16 is not offered: SDXL's VAE overflows in it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

BF16_NORMS = "bf16_norms"
"""As ``bf16``, with norms in bf16 too: nothing between two layers is fp32, so nothing is cast back before the next."""


def torch_type(precision: str) -> torch.dtype:
    """The type of weights in ``fp32``, ``bf16`` or ``bf16_norms``."""
    return torch.float32 if precision == "fp32" else torch.bfloat16


def autocast_for(device_type: str, precision: str) -> AbstractContextManager[object]:
    """For a forward pass: autocast in bf16, which keeps norms in fp32 on a GPU; nothing in ``fp32``.

    In ``bf16_norms`` autocast still casts the fp32 weights of an adapter, the latents and the times.
    """
    return nullcontext() if precision == "fp32" else torch.autocast(device_type, torch.bfloat16)


def use_half_norms(network: nn.Module) -> None:
    """Let group and layer norms take, compute and give bf16 under autocast too; sums inside a kernel stay fp32.

    Norms of other classes, such as those that a model's authors want in fp32, stay as they are.
    """
    for module in network.modules():
        kind = _HALF.get(type(module))
        if kind is not None:
            module.__class__ = kind


class _HalfGroupNorm(nn.GroupNorm):
    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.bfloat16())


class _HalfLayerNorm(nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.bfloat16())


_HALF: dict[type[nn.Module], type[nn.Module]] = {nn.GroupNorm: _HalfGroupNorm, nn.LayerNorm: _HalfLayerNorm}
