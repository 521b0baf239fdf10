"""Readers of preference data sets. One file per layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from qsd.data.source import PairSource
    from qsd.registry import Remark


def _never(_path: Path) -> bool:
    return False


@dataclass(frozen=True)
class Reader:
    """A layout of preference data.

    Attributes:
        open: path of the data set -> source that streams its rows and gives random access to their images.
        version: raised whenever the same bytes give other pairs.
        recognises: path -> whether it has this layout, for commands without ``--reader``.
        digest: path -> digest of files that belong to the data set but are not below the path; None if there are none.
        missing: path -> what is missing of the data set, by the names of its files, or None if it is complete.
        annotators: path -> what ``qsd data describe`` says about people who are not named with the pairs; may be empty.
        with_columns: path, role -> name of its column (``data.columns``) -> source; None: the layout has fixed columns.
    """

    open: Callable[[Path], PairSource]
    version: int = 1
    recognises: Callable[[Path], bool] = _never
    digest: Callable[[Path], str] | None = None
    missing: Callable[[Path], str | None] | None = None
    annotators: Callable[[Path], Iterator[str]] | None = None
    with_columns: Remark[Callable[[Path, Mapping[str, str]], PairSource] | None] = None


REGISTRY: Registry[Reader] = Registry("data reader", "qsd.data.readers", "READER")
