"""Readers of preference data sets. One file per layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qsd.data.source import PairSource


@dataclass(frozen=True)
class Reader:
    """A layout of preference data.

    Attributes:
        open: path of the data set -> source that streams its rows and gives random access to their images.
        version: raised whenever the same bytes give other pairs.
    """

    open: Callable[[Path], PairSource]
    version: int = 1


REGISTRY: Registry[Reader] = Registry("data reader", "qsd.data.readers", "READER")
