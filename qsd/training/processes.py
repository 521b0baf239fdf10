"""One process, or several that share an optimiser step: who trains on which pairs, and how their sums meet.

Started by ``accelerate launch`` or ``torchrun``, each process has a rank; started in any other way there is one process
and nothing here costs anything. Every process holds the whole adapter and makes the same update; only the main process
writes files.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """``rank`` of ``count`` processes; sums are over all of them."""

    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """True in the process that writes."""
        return self.rank == 0

    def shares(self, first: int, last: int, micro_batch: int) -> list[tuple[int, int]]:
        """The micro-batches of this process, (start, stop) each, among the positions ``first`` to ``last - 1``.

        One process takes them in order, the last one being the smaller. Several deal out equal numbers of micro-batches
        of almost equal size, so that none waits; what they hold together is every position once.

        Raises:
            UserError: fewer pairs than processes.
        """
        pairs = last - first
        if self.count == 1:
            return [(start, min(start + micro_batch, last)) for start in range(first, last, micro_batch)]
        if pairs < self.count:
            raise UserError(
                f"training.pairs_per_step is {pairs}, but there are {self.count} processes; start at most {pairs}"
            )
        rounds = -(-pairs // (micro_batch * self.count))
        pieces = min(rounds * self.count, pairs)
        edges = [first + pairs * piece // pieces for piece in range(pieces + 1)]
        return list(itertools.pairwise(edges))[self.rank :: self.count]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of the processes' tensors; every process gets the same bits."""
        if self.count == 1:
            return tensor
        from accelerate.utils import reduce

        reduced: Tensor = reduce(tensor, reduction="sum")
        return reduced

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes, in one exchange of all of them; none counts as zero."""
        if self.count == 1:
            return
        import torch

        chosen = list(parameters)
        parts = [torch.zeros_like(item) if item.grad is None else item.grad for item in chosen]
        sizes = [part.numel() for part in parts]
        total = self.sum(torch.cat([part.reshape(-1) for part in parts]))
        for parameter, part in zip(chosen, torch.split(total, sizes), strict=True):
            parameter.grad = part.reshape(parameter.shape)

    def any(self, flag: bool, device: torch.device) -> bool:
        """True when it is true in at least one process; with several processes all must ask together."""
        if self.count == 1:
            return flag
        import torch

        return bool(self.sum(torch.tensor(float(flag), device=device)) > 0)

    def wait(self) -> None:
        """Until every process is here."""
        if self.count > 1:
            _state().wait_for_everyone()


def rank() -> int:
    """This process's rank as its launcher says, without joining the others; 0 for a single process."""
    return int(os.environ.get("RANK", "0")) if launched() > 1 else 0


def launched() -> int:
    """How many processes a launcher has started to work together; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join(device: str) -> tuple[Processes, str]:
    """Meet the other processes, if a launcher has started several.

    Args:
        device: ``cpu`` or ``cuda``; processes on a CPU talk through gloo, on GPUs through NCCL, one GPU each.

    Returns:
        The processes, and the device of this one.

    Raises:
        UserError: a device with a number, which several processes cannot share, or fewer GPUs than processes.
    """
    if launched() == 1:
        return Processes(), device
    if ":" in device:
        raise UserError(f"device is {device!r}, but several processes train together; use device: auto, cuda or cpu")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device == "cuda" and here > (gpus := _gpus()):
        raise UserError(
            f"{here} processes train together, a GPU each, but PyTorch sees {gpus} here; start at most {gpus}"
        )
    state = _state(cpu=device == "cpu")
    return Processes(state.process_index, state.num_processes), str(state.device)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _state(**options: Any) -> Any:
    from accelerate import PartialState

    return PartialState(**options)
