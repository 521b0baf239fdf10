"""Reading JSON lines: a file with one JSON object on each line, in UTF-8; empty lines are passed over."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from qsd.data.lfs import pointer_hint
from qsd.data.text_table import text_lines
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number, from 1, and object of every line.

    Raises:
        UserError: the file cannot be read, a line is no JSON or no object, or gives a name twice; with its line.
    """
    for number, line in text_lines(path):
        if not line.strip():
            continue
        try:
            item = json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            if hint := pointer_hint(path):
                raise UserError(f"{path}: {hint}") from None
            text = getattr(error, "msg", None) or str(error)
            raise UserError(f"{path}:{number}: not readable as JSON, {text}; write one object on each line") from None
        if not isinstance(item, dict):
            raise UserError(f"{path}:{number}: must be an object {{…}}, not {json.dumps(item)[:40]}")
        yield number, item


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a name that is there twice Python would keep the last value without a word."""
    item = dict(pairs)
    if len(item) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return item
