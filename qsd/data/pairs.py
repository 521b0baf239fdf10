"""Types of the data: a row of a source, a preference pair, and their ids.

An image's uid is a digest of its bytes, and a pair's id is a digest of its caption and its two images in the order of
preference. So the same pair has the same id in every data set, and a pair with the opposite label is another pair.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

ID_DIGITS = 16

Side = Literal["winner", "loser"]


def image_uid(data: bytes) -> str:
    """First 16 hex digits of the SHA-256 of an image file's bytes."""
    return hashlib.sha256(data).hexdigest()[:ID_DIGITS]


def pair_id(caption: str, winner_uid: str, loser_uid: str) -> str:
    """First 16 hex digits of the SHA-256 of caption, winner and loser uid, joined by NUL."""
    return hashlib.sha256(f"{caption}\0{winner_uid}\0{loser_uid}".encode()).hexdigest()[:ID_DIGITS]


@dataclass(frozen=True)
class SourceRow:
    """One row of a data set, images already in the order of preference.

    Attributes:
        number: its position in the source, from 0.
        name: its name in lists of problems: the source's own id if there is one, else ``row-<number>``.
        caption: the text, or None if the source has none.
        winner: file bytes of the preferred image, or None.
        loser: file bytes of the other image, or None.
        annotator: id of the person who chose, or None if the source does not give it.
        problem: why the row is not a pair according to the reader (``tie``, ``missing_image``, …), or None.
        winner_name: the source's name of the preferred image (a path or an id), or None.
        loser_name: the source's name of the other image, or None.
    """

    number: int
    name: str
    caption: str | None
    winner: bytes | None
    loser: bytes | None
    annotator: str | None = None
    problem: str | None = None
    winner_name: str | None = None
    loser_name: str | None = None


@dataclass(frozen=True)
class PreferencePair:
    """A pair (caption, winner image, loser image) without its images; ``source_row`` is where to find them."""

    pair_id: str
    caption: str
    winner_uid: str
    loser_uid: str
    annotator_id: str | None
    source_row: int
