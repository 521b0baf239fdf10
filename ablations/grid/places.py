"""Where the file of a sweep sets a field, for messages about what only the plan can see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qsd.config.load import flatten
from qsd.config.yaml_nodes import load
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qsd.config.yaml_nodes import Node

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
