"""Adjustments: execution settings that a retry changed for one stage, such as a halved micro-batch.

Only fields that say how a stage runs may be adjusted, so its meaning, and with it its key, stay what they are. Attempts
put adjustments over the values of their job and record them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ablations.files import read_json, write_json
from qsd.config.check import problem, schema_fields, unknown_key
from qsd.config.fields import Kind
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ablations.store.artefacts import Store


def write(store: Store, stage: str, key: str, values: Mapping[str, Any], reason: str) -> None:
    """Adjust a stage from its next attempt on; earlier adjustments of other fields stay.

    Args:
        store: where the stage lives.
        stage: its kind.
        key: its key.
        values: dotted name -> new value.
        reason: one line for people: why it was adjusted.

    Raises:
        UserError: a field that is unknown or decides results, or a wrong value.
    """
    _check(values, "an adjustment")
    changed = {**read(store, stage, key), **values}
    write_json(_path(store, stage, key), {"values": changed, "reason": reason})


def read(store: Store, stage: str, key: str) -> Mapping[str, Any]:
    """The adjusted settings of a stage by dotted name; empty without any.

    Raises:
        UserError: the file is damaged, or adjusts what it must not.
    """
    path = _path(store, stage, key)
    content = read_json(path)
    if content is None and not path.exists():
        return {}
    if not isinstance(content, dict) or not isinstance(content.get("values"), dict):
        raise UserError(f"{path}: not an adjustment; delete it and retry again")
    values: dict[str, Any] = content["values"]
    _check(values, str(path))
    return values


def _path(store: Store, stage: str, key: str) -> Path:
    return store.root / "adjust" / stage / f"{key}.json"


def _check(values: Mapping[str, Any], place: str) -> None:
    for name, value in values.items():
        info = schema_fields().get(name)
        if info is None:
            raise UserError(f"{place}: {unknown_key(name)}")
        if info.kind is not Kind.EXECUTION:
            raise UserError(f"{place}: '{name}' decides results; only settings of how a stage runs can be adjusted")
        text = problem(info, value)
        if text:
            raise UserError(f"{place}: {text}")
