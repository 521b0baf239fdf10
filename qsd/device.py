"""Choice of the device and the number of CPU threads of a stage."""

from __future__ import annotations

from qsd.errors import UserError


def prepare(device: str, threads: int) -> str:
    """Set the CPU threads of this process and resolve ``auto`` to an existing device; disables TF32 for fp32 products.

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
        raise UserError(f"device is {device!r}, but PyTorch finds no CUDA device; use device: auto or cpu")
    return device
