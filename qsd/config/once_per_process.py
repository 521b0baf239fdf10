"""Functions of paths, called once per process and working directory."""

from __future__ import annotations

import os
from functools import update_wrapper
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

P = ParamSpec("P")
R = TypeVar("R")


class OncePerProcess(Generic[P, R]):
    """A function that is called once per working directory and arguments; a relative path means another file elsewhere.

    Arguments are positional and hashable.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self._function = function
        self._results: dict[tuple[Hashable, ...], R] = {}
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's result."""
        place = (os.getcwd(), *args, *sorted(kwargs.items()))  # noqa: PTH109  (a string, and quick)
        if place not in self._results:
            self._results[place] = self._function(*args, **kwargs)
        return self._results[place]

    def cache_clear(self) -> None:
        """Forget everything."""
        self._results.clear()
