"""The precision of the forward pass of reward models: fp32, or TF32 and bf16 as measured options."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from qsd.errors import UserError

PRECISIONS = ("fp32", "tf32", "bf16")


def check_precision(precision: str, device: str) -> None:
    """Refuse TF32 where there is none, for it would be fp32 by another name.

    Raises:
        UserError: ``tf32`` on a device that has no such units.
    """
    if precision != "tf32":
        return
    if not device.startswith("cuda"):
        raise UserError(
            f"reward.precision is 'tf32', but device is {device!r}, which has no TF32 units; use fp32 or bf16, or a "
            "CUDA device"
        )
    if torch.cuda.get_device_capability(device)[0] < 8:
        name = torch.cuda.get_device_name(device)
        raise UserError(f"reward.precision is 'tf32', but {name} has no TF32 units (Ampere and later have); use fp32")


@contextmanager
def computing(precision: str, device: str) -> Iterator[None]:
    """Within it, models compute in ``precision``; weights stay fp32 in memory.

    Args:
        precision: ``fp32``; ``tf32``: matrix products and convolutions round their factors to 10 bits of mantissa;
            ``bf16``: PyTorch's autocast, in which norms and softmax stay fp32.
        device: torch device.
    """
    if precision == "bf16":
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            yield
        return
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
