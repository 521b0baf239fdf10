"""Data sets made of a list of pairs and image files: the list is held in memory, images are read when requested."""

from __future__ import annotations

import hashlib
import itertools
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qsd.data.image_files import ImageFiles, RefusedImageError
from qsd.data.pairs import SourceRow
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Listed:
    """One row of a list; ``winner`` and ``loser`` are relative paths, the other fields as in :class:`SourceRow`."""

    name: str
    caption: str | None
    winner: str | None = None
    loser: str | None = None
    annotator: str | None = None
    problem: str | None = None


class ListedPairs:
    """A :class:`qsd.data.source.PairSource` over a list of rows.

    Args:
        path: the list's own file, for messages.
        rows: its rows in order.
        images: where their images are.
    """

    def __init__(self, path: Path, rows: Iterable[Listed], images: ImageFiles) -> None:
        self.path = path
        self.images = images
        self._rows = list(rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def pairs(self) -> int:
        """Number of rows without a problem, such as a tie, in the list itself; images are not read."""
        return sum(row.problem is None for row in self._rows)

    def rows(self, start: int, stop: int) -> Iterator[SourceRow]:
        """See :meth:`qsd.data.source.PairSource.rows`."""
        for number in range(start, min(stop, len(self._rows))):
            yield self._row(number)

    def image_bytes(self, number: int) -> tuple[bytes, bytes]:
        """See :meth:`qsd.data.source.PairSource.image_bytes`."""
        if not 0 <= number < len(self._rows):
            raise UserError(f"source row {number}: {self.path} has {len(self)} rows; run the data stage again")
        row = self._row(number)
        if row.problem or not row.winner or not row.loser:
            why = f" ({row.problem})" if row.problem else ""
            raise UserError(f"{self.path}: row {number} is no pair any more{why}; run the data stage again")
        return row.winner, row.loser

    def digest(self) -> str:
        """32 hex digits that change when an image file is added, removed, or gets another size or checksum."""
        names = {name for row in self._rows for name in (row.winner, row.loser) if name}
        total = hashlib.sha256()
        for name in sorted(names):
            try:
                mark = self.images.fingerprint(name)
            except RefusedImageError as refused:
                mark = refused.reason
            total.update(f"{name}\0{mark}\n".encode(errors="replace"))
        return total.hexdigest()[:32]

    def _row(self, number: int) -> SourceRow:
        listed = self._rows[number]
        winner = loser = None
        problem = listed.problem
        if problem is None:
            try:
                winner, loser = (self.images.read(name or "") for name in (listed.winner, listed.loser))
            except RefusedImageError as refused:
                problem = refused.reason
        return SourceRow(
            number=number,
            name=listed.name,
            caption=listed.caption,
            winner=winner,
            loser=loser,
            annotator=listed.annotator,
            problem=problem,
            winner_name=listed.winner,
            loser_name=listed.loser,
        )


def ranked(name: str, caption: str | None, images: Sequence[Any], ranks: Sequence[Any]) -> Iterator[Listed]:
    """All pairs of a ranking, lower rank first; equal ranks are ties.

    A ranking that makes no pair is one row with a problem: ``uneven_lists`` (not one rank per image),
    ``single_image``, ``label_out_of_range`` (a rank that is no number).
    """
    if len(images) != len(ranks):
        problem = "uneven_lists"
    elif len(images) < 2:
        problem = "single_image"
    elif not all(is_number(rank) for rank in ranks):
        problem = "label_out_of_range"
    else:
        for first, second in itertools.combinations(range(len(images)), 2):
            better, worse = (first, second) if ranks[first] <= ranks[second] else (second, first)
            tie = "tie" if ranks[first] == ranks[second] else None
            pair = f"{name}/{first}-{second}"
            yield Listed(pair, caption, text(images[better]), text(images[worse]), problem=tie)
        return
    yield Listed(name, caption, problem=problem)


def is_number(value: Any) -> bool:
    """True for a finite number; False for booleans."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def text(value: Any) -> str | None:
    """``value`` if it is text, else None; equal texts share one object, because captions and paths repeat."""
    return sys.intern(value) if type(value) is str else None


def shown(value: object) -> str:
    """An id in a form that can be printed and written: halves of surrogate pairs become question marks."""
    return str(value).encode(errors="replace").decode()


def check_keys(path: Path, number: int, item: dict[str, Any], needed: dict[str, type]) -> None:
    """Refuse an item of a JSON list in which a key is missing or has a value of another type; null is accepted.

    Raises:
        UserError: with the item's number, from 0.
    """
    words = {str: "text", list: "a list", int: "a number", object: "a name"}
    for key, kind in needed.items():
        if key not in item:
            have = ", ".join(list(item)[:8]) or "nothing"
            raise UserError(f"{path}: item {number}: '{key}' ({words[kind]}) is missing; it has {shown(have)}")
        if item[key] is not None and not isinstance(item[key], kind):
            raise UserError(f"{path}: item {number}: '{key}' must be {words[kind]}, not {shown(repr(item[key]))[:40]}")
