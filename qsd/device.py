"""The device and the CPU threads of a stage."""

from __future__ import annotations

from qsd.errors import UserError


def prepare(device: str, threads: int) -> str:
    """Fix the CPU threads of this process and turn ``auto`` into a device that is there; fp32 means fp32, not TF32.

    Raises:
        UserError: a CUDA device that this machine does not have.
    """
    import torch

    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    present = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if present else "cpu"
    if device.startswith("cuda") and not present:
        raise UserError(f"device is {device!r}, but PyTorch finds no CUDA device here; use device: auto or cpu")
    return device
