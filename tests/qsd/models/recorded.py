"""What a network is called with."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def recorded(network: nn.Module) -> Iterator[list[dict[str, Any]]]:
    """The arguments of every call of ``network``, by name; tensors are copied, what is None is left out."""
    names = list(inspect.signature(network.forward).parameters)
    calls: list[dict[str, Any]] = []

    def keep(_network: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        arguments = {**dict(zip(names, given, strict=False)), **named}
        calls.append(
            {
                name: value.detach().clone() if isinstance(value, Tensor) else value
                for name, value in arguments.items()
                if value is not None
            }
        )

    handle = network.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()
