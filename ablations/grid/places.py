"""Where the file of a sweep sets a field or gives a value, for messages about what only the plan can see.

Stages see plain values, so what they refuse of an axis can only name the field and its value.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.grid.values import show
from qsd.config.field_places import named_field
from qsd.config.load import flatten
from qsd.config.yaml_nodes import Node, load
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ablations.grid.spec import Sweep

CLAUSES = ("overrides", "axes", "zip", "controls", "include")
"""Clauses that set fields of the experiment."""


def place_of(file: str, name: str, clauses: Sequence[str] = CLAUSES) -> str:
    """``path:line:column`` of a field in the first of some clauses that sets it; the path alone if that is not known.

    Args:
        file: of the sweep, as ``Sweep.shown`` has it.
        name: of the field, dotted.
        clauses: names of those that are searched.
    """
    try:
        parts = {clause: node for clause, _, node in load(Path(file)).items()}
    except UserError:  # it was read before; a test may have none
        return file
    keys = (key for clause in clauses if clause in parts for key in _keys(clause, parts[clause], name))
    first = next(keys, None)
    return file if first is None else f"{first.path}:{first.line}:{first.column}"


def _keys(clause: str, node: Node, name: str) -> Iterator[Node]:
    """The nodes that name a field."""
    if clause == "overrides":
        leaves = flatten(node)
        yield from (leaves[name],) if name in leaves else ()
        return
    entries = [node] if isinstance(node.value, dict) else node.value
    yield from (entry.value[name][0] for entry in entries if name in entry.value)


def with_sweep_place(error: UserError, sweep: Sweep) -> UserError:
    """The error, after file, line and column of the value that it names; as it is if the file does not give it.

    Args:
        error: what is wrong; the first field that it names is meant, and of the values that the file gives
            it the one that follows first in the message.
        sweep: as it was read from its file.
    """
    name = named_field(error)
    if name is None or name in sweep.settings:
        return error
    try:
        given = list(_given(load(Path(sweep.shown)), name))
    except UserError:  # the file has gone since
        return error
    _, _, message = str(error).partition(name)
    places = [(match.start(), number) for number, node in enumerate(given) if (match := _written(node, message))]
    return given[min(places)[1]].error(str(error)) if places else error


def _written(node: Node, message: str) -> re.Match[str] | None:
    """Where a message has the value of a node, as a word of its own."""
    return re.search(rf"(?<![\w.-]){re.escape(show(node.plain()))}(?![\w.-])", message)


def _given(node: Node, name: str) -> Iterator[Node]:
    """Every value that the file gives a field, in the order of the file; of a list each, and the list after them."""
    if isinstance(node.value, list):
        for item in node.value:
            yield from _given(item, name)
    elif isinstance(node.value, dict):
        for key, _, value in node.items():
            if key == name:
                yield from value.value if isinstance(value.value, list) else ()
                yield value
            else:
                yield from _given(value, name)
