"""Kinds of configuration fields, and a walk over all of them by dotted name.

The fields of a section that members complete are collected from their files on first use (``qsd.config.members``).
"""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any

from qsd.config.members import MemberSection, complete, default_of

if typing.TYPE_CHECKING:
    from collections.abc import Iterator

REQUIRED = "???"
"""OmegaConf's mark of a value that must be given."""


MOST_SEED = 2**31 - 1
"""The largest seed that every generator of random numbers takes."""


class Kind(Enum):
    """What a field does to the identity of a result."""

    MEANING = "meaning"
    """Changes the result: enters the keys of the stages that read it."""
    EXECUTION = "execution"
    """Changes only how a stage runs: never enters a key."""
    LOCATION = "location"
    """A path: the content behind it enters keys, the path does not."""


@dataclass(frozen=True)
class FieldInfo:
    """One leaf of the schema."""

    name: str
    type: Any
    default: Any
    kind: Kind
    why: str
    registry: str | None = None
    choices: tuple[str, ...] = ()
    above: float | None = None
    below: float | None = None
    least: float | None = None
    most: float | None = None
    shell: bool = False
    """True for a command that a shell reads, in which ${…} has a meaning."""
    needed: str = ""
    """``pairs`` or ``on-policy``: methods of that kind must be given the field, the others do not read it."""

    @property
    def required(self) -> bool:
        """True when an experiment must give a value."""
        return bool(self.default == REQUIRED)


def _field(default: Any, kind: Kind, why: str, **limits: Any) -> Any:
    metadata = {"kind": kind, "why": why, **limits}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def meaning(default: Any, why: str, **limits: Any) -> Any:
    """A field that changes results. ``limits``: registry, choices, above, below, needed, least, most (included)."""
    return _field(default, Kind.MEANING, why, **limits)


def execution(default: Any, why: str, **limits: Any) -> Any:
    """A field that changes only how a stage runs."""
    return _field(default, Kind.EXECUTION, why, **limits)


def location(default: Any, why: str, **limits: Any) -> Any:
    """A path, relative to the project's root, whose content enters keys."""
    return _field(default, Kind.LOCATION, why, **limits)


def _walk(schema: type, prefix: str) -> Iterator[FieldInfo]:
    hints = typing.get_type_hints(schema)
    for item in dataclasses.fields(schema):
        name = f"{prefix}{item.name}"
        hint = hints[item.name]
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            section = complete(hint) if issubclass(hint, MemberSection) else hint
            yield from _walk(section, f"{name}.")
            continue
        yield FieldInfo(name=name, type=hint, default=default_of(item), **item.metadata)


@cache
def fields_of(schema: type) -> dict[str, FieldInfo]:
    """All leaves of a dataclass schema by dotted name, in the order of the source."""
    return {info.name: info for info in _walk(schema, "")}


@cache
def groups_of(schema: type) -> frozenset[str]:
    """Dotted names of all nested sections of a schema, those within sections included, such as ``data.columns``."""
    parts = (name.split(".") for name in fields_of(schema))
    return frozenset(".".join(name[:end]) for name in parts for end in range(1, len(name)))


@cache
def sections_of(schema: type) -> tuple[str, ...]:
    """Names of the nested sections of a schema."""
    hints = typing.get_type_hints(schema)
    return tuple(item.name for item in dataclasses.fields(schema) if dataclasses.is_dataclass(hints[item.name]))
