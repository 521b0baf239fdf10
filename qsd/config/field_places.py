"""Where an experiment's files state the field that an error is about."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qsd.config.check import schema_fields
from qsd.config.extends import chain
from qsd.config.load import flatten

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from qsd.errors import UserError

_DOTTED = re.compile(r"[a-z_]+\.[a-z_]+")


def with_place(error: UserError, experiment: Path, elsewhere: Container[str]) -> UserError:
    """The error, after the file, line and column of the field that it names; as it is if no file states that field.

    Stages see plain values, so their errors (nothing at a path, no such split) can only name the field.

    Args:
        error: what is wrong.
        experiment: the experiment's file; the files that it extends are searched after it.
        elsewhere: the fields that a sweep or the command line sets: the files' values of these are not used.
    """
    named = named_field(error)
    if named is None or named in elsewhere:
        return error
    for _, node in reversed(chain(experiment)):
        leaf = flatten(node).get(named)
        if leaf is not None:
            return leaf.error(str(error))
    return error


def named_field(error: UserError) -> str | None:
    """The first field of an experiment that an error names."""
    fields = schema_fields()
    return next((word for word in _DOTTED.findall(str(error)) if word in fields), None)
