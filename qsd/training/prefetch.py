"""Batches made in a thread while the device computes: reading inputs and drawing noise cost no time of a step."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields, replace
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Prefetched(Generic[T]):
    """Results of ``make(number)``, for numbers that are asked for one after the other.

    Inside the context a thread makes up to ``ahead`` results before they are asked for; outside it ``take`` makes them
    itself. An exception of ``make`` is raised by ``take`` of the same number.

    Args:
        make: must be a pure function of the number.
        ahead: results that wait at most.
        last: numbers from here on are not made before they are asked for.
    """

    def __init__(self, make: Callable[[int], T], ahead: int, last: int) -> None:
        self._make = make
        self._ahead = ahead
        self._last = last
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: dict[int, Future[T]] = {}

    def __enter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, "batches")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._thread is not None
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._thread = None
        self._waiting.clear()

    def take(self, number: int) -> T:
        """The result of one number."""
        if self._thread is None:
            return self._make(number)
        for wanted in range(number, max(number + 1, min(number + self._ahead + 1, self._last))):
            if wanted not in self._waiting:
                self._waiting[wanted] = self._thread.submit(self._make, wanted)
        return self._waiting.pop(number).result()


def moved(batch: T, device: torch.device) -> T:
    """A batch (a dataclass of tensors) with every tensor on ``device``; from pinned memory the copy does not wait."""
    return _map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


def pinned(batch: T) -> T:
    """A batch (a dataclass of tensors) in page-locked memory."""
    return _map_tensors(batch, lambda tensor: tensor.pin_memory())


def _map_tensors(batch: T, change: Callable[[Tensor], Tensor]) -> T:
    """The batch with each tensor changed, in fields and in dictionaries of tensors; other fields stay."""
    instance: Any = batch
    changed: dict[str, Any] = {}
    for field in fields(instance):
        value = getattr(instance, field.name)
        if isinstance(value, Tensor):
            changed[field.name] = change(value)
        elif isinstance(value, dict):
            changed[field.name] = {name: change(tensor) for name, tensor in value.items()}
    copy: T = replace(instance, **changed)
    return copy
