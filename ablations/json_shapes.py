"""Shapes of JSON values: what a file of a run store must hold to be read as one of ours.

These files are written whole, so one of another shape comes from another version or was damaged. Its readers then do as
without the file, instead of failing at the first field that is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from ablations.files import read_json

if TYPE_CHECKING:
    from pathlib import Path

Shape: TypeAlias = Callable[[Any], bool]
"""True for a value of this shape."""


def text(value: Any) -> bool:
    """Any text."""
    return isinstance(value, str)


def flag(value: Any) -> bool:
    """true or false."""
    return isinstance(value, bool)


def whole(value: Any) -> bool:
    """A whole number."""
    return isinstance(value, int) and not flag(value)


def number(value: Any) -> bool:
    """A number."""
    return isinstance(value, float) or whole(value)


def anything(_value: Any) -> bool:
    """Any value."""
    return True


def optional(shape: Shape) -> Shape:
    """Null, a name that is missing, or a value of a shape."""
    return lambda value: value is None or shape(value)


def listing(shape: Shape) -> Shape:
    """A list of values of a shape."""
    return lambda value: isinstance(value, list) and all(map(shape, value))


def mapping(shape: Shape) -> Shape:
    """An object with values of a shape under any names."""
    return lambda value: isinstance(value, dict) and all(map(shape, value.values()))


def fields(**shapes: Shape) -> Shape:
    """An object with at least these names; others may hold anything."""
    return lambda value: isinstance(value, dict) and all(shape(value.get(name)) for name, shape in shapes.items())


def read_shaped(path: Path, shape: Shape) -> Any | None:
    """The value in a JSON file; None if the file is missing, damaged, or of another shape."""
    content = read_json(path)
    return content if shape(content) else None
