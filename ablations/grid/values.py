"""The values that a sweep gives to fields of the experiment, each checked at its place in the file."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any

from qsd.config.check import OF_IMAGES, convert, is_axis, problem, schema_fields, unknown_key
from qsd.config.fields import FieldInfo, Kind, sections_of
from qsd.config.schema import ExperimentConfig
from qsd.printable import printable
from qsd.registry import suggest_field

if TYPE_CHECKING:
    from qsd.config.yaml_nodes import Node

REPLICATE = "replicate"
"""An axis that is no field of the experiment: the same recipe with other training seeds."""
REPLICATE_SEEDS = 10_000
"""Replicate r of training seed s trains with seed s + 10,000 r."""
_REPLICATE = FieldInfo(REPLICATE, int, 0, Kind.MEANING, "the same recipe with other training seeds", least=0, most=999)


def show(value: Any) -> str:
    """A value as a person would write it in YAML; long ones are cut."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(show(item) for item in value)}]"
    text = repr(value) if isinstance(value, str) and not value.strip() else printable(str(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def axis_field(name: str, key: Node) -> FieldInfo:
    """The field that an axis or a control sets.

    Raises:
        UserError: no such field, or one that a sweep can not vary.
    """
    if name == REPLICATE:
        return _REPLICATE
    fields = schema_fields()
    info = fields.get(name)
    if info is None:
        known = [REPLICATE, *(other for other, field in fields.items() if is_axis(field))]
        if name in sections_of(ExperimentConfig):
            raise key.error(unknown_key(name))
        raise key.error(f"unknown axis '{name}'{suggest_field(name, known)}")
    if name == "seed":
        raise key.error("'seed' is not an axis; the training seeds are given by 'seeds'")
    if name == "adapter":
        raise key.error("'adapter' is not an axis; the base model is always a cell")
    if name == "evaluation.embedder":
        raise key.error(
            f"'{name}' is not an axis: distances by two embedders cannot be compared; set it in the experiment"
        )
    if name in OF_IMAGES:
        raise key.error(
            f"'{name}' is not an axis: cells are compared on the same prompts and images; set it in the experiment or "
            "under 'overrides'"
        )
    if info.kind is Kind.EXECUTION:
        raise key.error(f"'{name}' only changes how a stage runs, not its result; it cannot be an axis")
    return info


def axis_value(name: str, key: Node, node: Node) -> Any:
    """One value of a field, checked and in the field's type."""
    info = axis_field(name, key)
    return _checked(info, node)


def axis_values(name: str, key: Node, node: Node) -> tuple[Any, ...]:
    """All values of an axis, checked and in the field's type."""
    info = axis_field(name, key)
    if not isinstance(node.value, list):
        value = show(node.plain())
        example = "" if node.value is None or isinstance(node.value, dict) else f"; for one value write [{value}]"
        raise node.error(f"axis '{name}' must be a list of values, not {value}{example}")
    if not node.value:
        raise node.error(f"axis '{name}' is empty")
    return tuple(_checked(info, item) for item in node.value)


def axis_choice(name: str, key: Node, node: Node) -> tuple[Any, ...]:
    """One value or a list of values, checked and in the field's type; of a list field, one list or a list of lists."""
    info = axis_field(name, key)
    several = isinstance(node.value, list)
    if several and typing.get_origin(info.type) is list:
        several = not node.value or isinstance(node.value[0].value, list)
    if not several:
        return (_checked(info, node),)
    if not node.value:
        raise node.error(f"the values of '{name}' are empty")
    return tuple(_checked(info, item) for item in node.value)


def _checked(info: FieldInfo, node: Node) -> Any:
    text = problem(info, node.plain())
    if text:
        raise node.error(text)
    return convert(info, node.plain())
