"""One process, or several that share an optimiser step: which positions each takes, and how their sums meet.

Started by ``accelerate launch`` or ``torchrun``, each process has a rank; started in any other way there is one process
and nothing here costs anything. Every process holds all trained weights and makes the same update; only the main
process writes files.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor, nn

from qsd.errors import UserError
from qsd.training.launcher import launched, launched_on_this_machine


@dataclass(frozen=True)
class Processes:
    """``rank`` of ``count`` processes; sums are over all of them."""

    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """True in the process that writes files and prints."""
        return self.rank == 0

    def shares(self, first: int, last: int, micro_batch: int) -> list[tuple[int, int]]:
        """The micro-batches of this process, (start, stop) each, among the positions ``first`` to ``last - 1``.

        One process takes them in order, the last one being the smaller. Several deal out equal numbers of micro-batches
        of almost equal size, so that none waits; together they hold every position once. With fewer positions than
        processes, the last processes get none.
        """
        positions = last - first
        if self.count == 1:
            return [(start, min(start + micro_batch, last)) for start in range(first, last, micro_batch)]
        rounds = -(-positions // (micro_batch * self.count))
        pieces = min(rounds * self.count, positions)
        edges = [first + positions * piece // pieces for piece in range(pieces + 1)]
        return list(itertools.pairwise(edges))[self.rank :: self.count]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of the processes' tensors of one shape; every process gets the same bits."""
        if self.count == 1:
            return tensor
        total: Tensor = reduce(tensor, reduction="sum")
        return total

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes, in one exchange of all of them; none counts as zero."""
        if self.count == 1:
            return
        trained = list(parameters)
        gradients = [torch.zeros_like(item) if item.grad is None else item.grad for item in trained]
        sizes = [gradient.numel() for gradient in gradients]
        # One flat tensor: the exchange is bound by latency, and an adapter has hundreds of small gradients.
        total = self.sum(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for parameter, gradient in zip(trained, torch.split(total, sizes), strict=True):
            parameter.grad = gradient.reshape(parameter.shape)

    def any(self, flag: bool, device: torch.device) -> bool:
        """True when it is true in at least one process; with several processes all must ask together."""
        if self.count == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=device)) > 0)

    def least(self, number: int, device: torch.device) -> int:
        """The smallest of the processes' numbers; with several processes all must ask together."""
        if self.count == 1:
            return number
        numbers = torch.zeros(self.count, dtype=torch.int64, device=device)
        numbers[self.rank] = number
        return int(self.sum(numbers).min())

    def wait(self) -> None:
        """Return when every process has called this."""
        if self.count > 1:
            _state().wait_for_everyone()


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
    local = launched_on_this_machine()
    if device == "cuda" and local > (gpus := torch.cuda.device_count()):
        raise UserError(
            f"{local} processes train together, a GPU each, but PyTorch sees {gpus} here; start at most {gpus}"
        )
    state = _state(cpu=device == "cpu")
    return Processes(state.process_index, state.num_processes), str(state.device)


def _state(**options: Any) -> Any:
    return PartialState(**options)
