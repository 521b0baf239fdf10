"""Settings given on a command line: ``--set dotted.name=value``, read as YAML and checked as in a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.config.check import convert, problem, unknown_key
from qsd.config.fields import fields_of
from qsd.config.schema import ExperimentConfig
from qsd.config.yaml_nodes import parse
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence


def assignments(settings: Sequence[str], schema: type = ExperimentConfig) -> dict[str, Any]:
    """The values of ``dotted.name=value`` by name, each in the type of its field.

    Raises:
        UserError: as :func:`assignment`; a name that is there twice or is no field of the schema; or a wrong value.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        name, value = assignment(setting)
        if name in values:
            raise UserError(f"--set {name} is given twice; keep one of them")
        info = fields_of(schema).get(name)
        if info is None:
            raise UserError(f"--set {setting}: {unknown_key(name, schema)}")
        text = problem(info, value)
        if text:
            raise UserError(f"--set {setting}: {text}")
        values[name] = convert(info, value)
    return values


def assignment(setting: str) -> tuple[str, Any]:
    """The name and the value of ``dotted.name=value``.

    Raises:
        UserError: no equals sign, or no readable value.
    """
    name, equals, text = setting.partition("=")
    if not equals:
        raise UserError(f"--set {setting}: write it as dotted.name=value")
    values = parse(f"value: {text}", f"--set {name.strip()}").plain()
    if len(values) > 1:
        raise UserError(f"--set {name.strip()}: several lines; give each setting a --set of its own")
    return name.strip(), values["value"]
