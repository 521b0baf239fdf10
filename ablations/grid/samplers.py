"""Which settings of its fields a cell is tuned over: all points of their product, or a fixed random draw of them.

Pure functions of plain values, so that every machine and every later run tries the same settings in the same order.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from typing import TYPE_CHECKING, Any, TypeAlias

from ablations.grid.combinations import product

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Setting: TypeAlias = "Mapping[str, Any]"
"""Dotted name of a field -> the value that is tried."""

GRID, RANDOM = "grid", "random"
SAMPLERS = (GRID, RANDOM)
MOST_POINTS = 100_000


def count(fields: Mapping[str, tuple[Any, ...]]) -> int:
    """How many points the product of the fields has."""
    return math.prod(map(len, fields.values()))


def grid(fields: Mapping[str, tuple[Any, ...]]) -> tuple[Setting, ...]:
    """Every point of the product, the last field fastest."""
    return tuple(product(fields))


def random(fields: Mapping[str, tuple[Any, ...]], budget: int, seed: int) -> tuple[Setting, ...]:
    """``budget`` different points of the product, in the product's order.

    Which ones is a pure function of the number of values of each field and of ``seed``: the points with the smallest
    hashes of their places. So cells whose fields have equally many values are tuned at the same places, and a larger
    budget keeps what a smaller one has tried.

    Args:
        fields: whose product has at least ``budget`` points and at most ``MOST_POINTS``.
        budget: how many points.
        seed: another one draws other points.
    """
    places = list(_places(fields))
    drawn = set(sorted(places, key=lambda place: _hash(place, seed))[:budget])
    points = zip(places, product(fields), strict=True)
    return tuple(point for place, point in points if place in drawn)


def _places(fields: Mapping[str, tuple[Any, ...]]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(len(values)) for values in fields.values()))


def _hash(place: tuple[int, ...], seed: int) -> bytes:
    return hashlib.blake2b(repr((place, seed)).encode(), digest_size=16, person=b"ablations tune").digest()
