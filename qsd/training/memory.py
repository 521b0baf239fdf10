"""The micro-batch that fits into the free memory of a GPU, by what one pair and two pairs take there."""

from __future__ import annotations

from collections.abc import Callable

import torch

from qsd.config.schema import USUAL_MICRO_BATCH

USED_SHARE = 0.8
"""Of the free memory: the rest is for what grows later, such as workspaces of kernels and gaps between tensors."""


def fitting(most: int, of_passes: Callable[[int], int], free: int) -> int:
    """The largest power of two, or ``most``, of which a training pass fits; 1 if none does.

    Powers of two because cells share reference errors if they use the same micro-batch (``qsd.reference.identity``),
    and the free memory of two runs differs a little.

    Args:
        most: pairs of a step.
        of_passes: pairs -> bytes that a training pass of so many takes for a while.
        free: bytes.
    """
    one, two = of_passes(1), of_passes(2) if most > 1 else 0
    each = max(two - one, 1)
    fit = 1 + max(0, int(USED_SHARE * free) - one) // each
    return most if fit >= most else 1 << (fit.bit_length() - 1)


def chosen_micro_batch(device: torch.device, most: int, train: Callable[[int], object], state_bytes: int) -> int:
    """The micro-batch of ``training.micro_batch: 0``.

    Args:
        device: on a CPU it is ``USUAL_MICRO_BATCH``.
        most: pairs of a step that this process takes.
        train: makes a pass of some pairs with gradients, and keeps nothing.
        state_bytes: that the training will take beside it.
    """
    if device.type != "cuda":
        return USUAL_MICRO_BATCH

    def of_passes(pairs: int) -> int:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        train(pairs)
        return torch.cuda.max_memory_allocated(device) - before

    train(1)  # libraries take their workspaces with the first pass
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info(device)[0] - state_bytes
    return fitting(most, of_passes, free)
