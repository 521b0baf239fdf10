"""The clauses of a sweep file that shape its grid (axes, zip, when, baseline, exclude, include), each checked in place.

What they mean is in ``ablations.grid.combinations``; here YAML becomes those values, and a mistake a line and column.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ablations.grid.combinations import CyclicError, Group, existing, exists, in_order, matches, product
from ablations.grid.values import axis_choice, axis_value, axis_values, show
from qsd.registry import suggest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ablations.grid.combinations import Choice, Point, When
    from qsd.config.yaml_nodes import Node


def mapping(node: Node, what: str, example: str = "") -> Node:
    """``node``, if it is a mapping with something in it; ``example`` ends the message if it is none."""
    if not isinstance(node.value, dict):
        raise node.error(f"{what} must be a mapping of dotted names, not {show(node.plain())}{example}")
    if not node.value:
        raise node.error(f"{what} is empty")
    return node


def listing(node: Node, what: str, of: str = "mappings", example: str = "") -> list[Node]:
    """The entries of a list; ``example`` ends the message if it is none."""
    if not isinstance(node.value, list):
        raise node.error(f"{what} must be a list of {of}, not {show(node.plain())}{example}")
    return node.value


def read_axes(node: Node) -> dict[str, tuple[Any, ...]]:
    """``axes``: dotted name -> values."""
    return {name: axis_values(name, key, value) for name, key, value in mapping(node, "axes").items()}


def read_zip(node: Node, axes: Mapping[str, tuple[Any, ...]]) -> tuple[Mapping[str, tuple[Any, ...]], ...]:
    """``zip``: groups of axes whose values are taken together."""
    groups: list[Mapping[str, tuple[Any, ...]]] = []
    for entry in listing(node, "zip"):
        group: dict[str, tuple[Any, ...]] = {}
        for name, key, value in mapping(entry, "a zip group").items():
            if name in axes:
                raise key.error(f"'{name}' is in axes and in zip; list it in one of them only")
            if any(name in other for other in groups):
                raise key.error(f"'{name}' is in two zip groups; list it in one of them only")
            group[name] = axis_values(name, key, value)
            first = next(iter(group))
            if len(group[name]) != len(group[first]):
                lengths = f"'{name}' has {len(group[name])} values and '{first}' {len(group[first])}"
                raise value.error(f"{lengths}; the values of a zip group are taken together")
        if len(group) == 1:
            raise entry.error(f"a zip group of '{first}' alone; a single axis belongs in axes")
        groups.append(group)
    if not groups:
        raise node.error("zip is empty")
    return tuple(groups)


def read_when(node: Node, groups: Sequence[Group]) -> dict[str, Choice]:
    """``when``: axis -> the values of other axes for which it exists."""
    conditions_of: dict[str, Choice] = {}
    places: dict[str, Node] = {}
    varies = _varies(groups)
    for name, key, conditions in mapping(node, "when").items():
        _must_vary(name, key, varies, "when")
        conditions_of[name] = _listed_choice(mapping(conditions, f"the condition of '{name}'"), varies, "when")
        places[name] = key
        for other, other_key, _ in conditions.items():
            if other == name:
                raise other_key.error(f"'{name}' cannot depend on itself")
            if any({name, other} <= set(group.values) for group in groups):
                raise other_key.error(
                    f"'{name}' and '{other}' vary together in a zip group; neither depends on the other"
                )
    try:
        in_order(groups, conditions_of)
    except CyclicError as error:
        raise places[error.names[0]].error(
            f"'when' is circular: {error} (each axis exists only for some values of the next)"
        ) from None
    return conditions_of


def check_existence(node: Node, points: Sequence[Point]) -> None:
    """Every axis of ``when`` must exist in some combination."""
    for name, key, _ in node.items():
        if not any(name in point for point in points):
            raise key.error(f"'{name}' exists in no combination of the grid")


def read_baseline(node: Node, groups: Sequence[Group], when: When) -> Point:
    """``baseline``: the cell that others are compared with, every axis that exists there given a value."""
    varies = _varies(groups)
    given: dict[str, Any] = {}
    places: dict[str, tuple[Node, Node]] = {}
    for name, key, value in mapping(node, "baseline").items():
        if name not in varies:
            raise key.error(f"the baseline names '{name}', which is not an axis of this sweep{suggest(name, varies)}")
        given[name] = axis_value(name, key, value)
        places[name] = key, value
        if given[name] not in varies[name]:
            known = _listed(varies[name])
            raise value.error(
                f"the baseline must be a cell of the grid, but {show(given[name])} is not among the values of axis "
                f"'{name}' ({known}); add it there, or choose one of them"
            )
    chosen: Point = {}
    for group in in_order(groups, when):
        hidden = frozenset(name for name in group.values if not exists(name, chosen, when))
        for name in hidden & given.keys():
            raise places[name][0].error(f"the baseline gives '{name}', which {_absent(name, chosen, when)}")
        wanted = {name: given[name] for name in group.values if name in given}
        rows = [row for row in group.rows(hidden) if all(row[name] == value for name, value in wanted.items())]
        if not rows:
            together = " and ".join(f"{name} {show(value)}" for name, value in wanted.items())
            raise places[next(reversed(wanted))][1].error(
                f"the baseline must be a cell of the grid, but no row of zip has {together}"
            )
        for name in rows[0]:
            open_values = [row[name] for row in rows if row[name] != rows[0][name]]
            if open_values:
                raise node.error(f"the baseline leaves '{name}' open; give one of {_listed(_distinct(varies[name]))}")
        chosen.update(rows[0])
    return {name: chosen[name] for name in varies if name in chosen}


def read_exclude(
    node: Node, groups: Sequence[Group], points: Sequence[Point], baseline: Mapping[str, Any]
) -> tuple[Choice, ...]:
    """``exclude``: combinations to leave out; every entry must leave out some, and none the baseline."""
    varies = _varies(groups)
    entries: list[Choice] = []
    for entry in listing(node, "exclude"):
        choice = _listed_choice(mapping(entry, "an exclude"), varies, "exclude")
        if matches(baseline, choice):
            raise entry.error(f"this exclude removes the baseline ({_listed_point(baseline)})")
        if not any(matches(point, choice) for point in points):
            raise entry.error("this exclude matches no combination of the grid")
        entries.append(choice)
    if not entries:
        raise node.error("exclude is empty")
    return tuple(entries)


def read_include(
    node: Node, groups: Sequence[Group], when: When, baseline: Mapping[str, Any], most: int
) -> tuple[Choice, ...]:
    """``include``: further combinations, at most ``most`` per entry; what one does not name is the baseline's."""
    varies = _varies(groups)
    entries: list[Choice] = []
    for entry in listing(node, "include"):
        choice: dict[str, tuple[Any, ...]] = {}
        for name, key, value in mapping(entry, "an include").items():
            _must_vary(name, key, varies, "include", " (a control may set other fields)")
            choice[name] = axis_choice(name, key, value)
        if math.prod(map(len, choice.values())) > most:
            raise entry.error(f"this include adds more than {most:,} combinations")
        for values in product(choice):
            point = {**baseline, **values}
            for name in values:
                if name not in existing(point, when):
                    raise entry.value[name][0].error(f"this include gives '{name}', which {_absent(name, point, when)}")
        entries.append(choice)
    if not entries:
        raise node.error("include is empty")
    return tuple(entries)


def _varies(groups: Iterable[Group]) -> dict[str, tuple[Any, ...]]:
    return {name: values for group in groups for name, values in group.values.items()}


def _must_vary(name: str, key: Node, varies: Mapping[str, Any], clause: str, hint: str = "") -> None:
    if name not in varies:
        raise key.error(f"'{clause}' names '{name}', which is not an axis of this sweep{suggest(name, varies)}{hint}")


def _listed_choice(node: Node, varies: Mapping[str, tuple[Any, ...]], clause: str) -> Choice:
    """A choice among the values that the sweep's axes list."""
    choice: dict[str, tuple[Any, ...]] = {}
    for name, key, value in node.items():
        _must_vary(name, key, varies, clause)
        choice[name] = axis_choice(name, key, value)
        for chosen in choice[name]:
            if chosen not in varies[name]:
                raise value.error(
                    f"{show(chosen)} is not a value of axis '{name}' ({_listed(_distinct(varies[name]))})"
                )
    return choice


def _absent(name: str, point: Mapping[str, Any], when: When) -> str:
    """Why an axis does not exist beside the values of ``point``."""
    for other, values in when[name].items():
        if other not in point:
            return f"only exists where '{other}' does"
        if point[other] not in values:
            return f"only exists where {other} is {' or '.join(map(show, values))}, not {show(point[other])}"
    return "depends on an axis that does not exist here"


def _distinct(values: Iterable[Any]) -> list[Any]:
    distinct: list[Any] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return distinct


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(show(value) for value in values)


def _listed_point(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {show(value)}" for name, value in point.items())
