"""The combinations of a grid: products of axes and zip groups, without what ``when`` and ``exclude`` rule out.

Pure and free of files, so that what a sweep means can be stated, and tested, on plain values.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, TypeAlias

Point: TypeAlias = dict[str, Any]
"""Axis name -> value, for every axis that exists there."""
Choice: TypeAlias = Mapping[str, tuple[Any, ...]]
"""Name -> the values that match (of ``exclude`` and ``when``) or that are taken (of ``include``)."""
When: TypeAlias = Mapping[str, Choice]
"""Axis -> what must hold for it to exist."""


@dataclass(frozen=True)
class Group:
    """Axes that vary together; a plain axis is a group of one.

    Attributes:
        values: axis name -> its values, all of one length.
    """

    values: Mapping[str, tuple[Any, ...]]

    def rows(self, hidden: frozenset[str] = frozenset()) -> list[Point]:
        """The values row by row, without ``hidden`` axes; rows that then look the same are one."""
        columns = [[(name, value) for value in values] for name, values in self.values.items()]
        rows = [dict(row) for row in zip(*columns, strict=True)]
        if not hidden:
            return rows
        shown: list[Point] = []
        for row in rows:
            left = {name: value for name, value in row.items() if name not in hidden}
            if left not in shown:
                shown.append(left)
        return shown


class TooManyError(Exception):
    """There are more combinations than allowed; ``least`` says how many at least."""

    def __init__(self, least: int) -> None:
        super().__init__(f"at least {least:,} combinations")
        self.least = least


class CyclicError(Exception):
    """Axes whose existence depends on each other; ``names`` tells them, the first one again at the end."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(" -> ".join(names))
        self.names = names


def matches(point: Mapping[str, Any], choice: Choice) -> bool:
    """True if every name of ``choice`` exists in ``point`` with one of its values."""
    return all(name in point and point[name] in values for name, values in choice.items())


def exists(name: str, point: Mapping[str, Any], when: When) -> bool:
    """True if an axis exists beside the values in ``point``."""
    return name not in when or matches(point, when[name])


def existing(point: Mapping[str, Any], when: When) -> Point:
    """``point`` without the axes that do not exist there; what depends on one of these goes too."""
    left = dict(point)
    gone = [name for name in left if not exists(name, left, when)]
    while gone:
        for name in gone:
            del left[name]
        gone = [name for name in left if not exists(name, left, when)]
    return left


def combinations(groups: Sequence[Group], when: When, most: int | None = None) -> list[Point]:
    """Every combination once, the last group fastest; where an axis does not exist, its values collapse into one.

    Args:
        groups: what varies.
        when: conditions for the existence of axes, on axes of other groups.
        most: the largest number of combinations that is worked out.

    Raises:
        TooManyError: there are more than ``most``.
        CyclicError: conditions depend on each other.
    """
    points: list[Point] = [{}]
    for group in in_order(groups, when):
        variants: dict[frozenset[str], list[Point]] = {}
        rows = []
        for point in points:
            hidden = frozenset(name for name in group.values if not exists(name, point, when))
            if hidden not in variants:
                variants[hidden] = group.rows(hidden)
            rows.append(variants[hidden])
        count = sum(len(some) for some in rows)
        if most is not None and count > most:
            raise TooManyError(count)
        points = [{**point, **row} for point, some in zip(points, rows, strict=True) for row in some]
    names = [name for group in groups for name in group.values]
    return [{name: point[name] for name in names if name in point} for point in points]


def product(choice: Choice) -> Iterator[Point]:
    """Every combination of one value per name."""
    for values in itertools.product(*choice.values()):
        yield dict(zip(choice, values, strict=True))


def in_order(groups: Sequence[Group], when: When) -> list[Group]:
    """The groups, each after those that its existence depends on, otherwise as given. Raises CyclicError."""
    where = {name: number for number, group in enumerate(groups) for name in group.values}
    needs: dict[int, set[int]] = {number: set() for number in range(len(groups))}
    for name, choice in when.items():
        needs[where[name]].update(where[other] for other in choice)
    sorter = TopologicalSorter(needs)
    try:
        sorter.prepare()
    except CycleError as error:
        cycle: list[int] = list(reversed(error.args[1]))
        raise CyclicError([_dependent(groups[number], when) for number in cycle]) from None
    order: list[Group] = []
    ready = sorted(sorter.get_ready())
    while ready:
        number = ready.pop(0)
        order.append(groups[number])
        sorter.done(number)
        ready = sorted([*ready, *sorter.get_ready()])
    return order


def _dependent(group: Group, when: When) -> str:
    return next(name for name in group.values if name in when)
