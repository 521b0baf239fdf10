"""Read an experiment: YAML with positions -> flat dotted values -> typed configuration.

The same for other files with a schema of their own, such as the recipe of a reward model's training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from qsd.config.check import convert, problem, unknown_key
from qsd.config.extends import chain
from qsd.config.fields import fields_of, groups_of
from qsd.config.recipe import has_keys_of_recipe
from qsd.config.schema import ExperimentConfig
from qsd.config.yaml_nodes import Node, load
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from qsd.config.fields import FieldInfo

T = TypeVar("T")

Flat = dict[str, Any]
"""A configuration by dotted name, every field of the schema present."""


def defaults(schema: type = ExperimentConfig) -> Flat:
    """The schema's defaults; fields that an experiment must give are absent."""
    return {name: info.default for name, info in fields_of(schema).items() if not info.required}


def flatten(node: Node, schema: type = ExperimentConfig) -> dict[str, Node]:
    """Leaves of an experiment file by dotted name, checked against the schema.

    Both ``lora: {rank: 4}`` and ``lora.rank: 4`` are understood.

    Raises:
        UserError: an unknown key or a wrong value, with its place.
    """
    leaves: dict[str, Node] = {}
    groups = groups_of(schema)

    def add(dotted: str, key: Node, value: Node) -> None:
        if dotted in groups:
            if not isinstance(value.value, dict):
                raise value.error(f"'{dotted}' is a section; it must be a mapping of its fields")
            for name, inner_key, inner in value.items():
                add(f"{dotted}.{name}", inner_key, inner)
            return
        info = fields_of(schema).get(dotted)
        if info is None:
            raise key.error(unknown_key(dotted, schema))
        if dotted in leaves:
            raise key.error(f"'{dotted}' is given twice (first on line {leaves[dotted].line})")
        text = problem(info, value.plain())
        if text:
            raise value.error(text)
        leaves[dotted] = value

    for name, key, value in node.items():
        add(name, key, value)
    return leaves


def load_flat(path: Path, shown_as: str | None = None, schema: type = ExperimentConfig) -> Flat:
    """An experiment file over those that it extends, over the schema's defaults.

    Raises:
        UserError: a file is damaged, or required fields are missing, all of which are named.
    """
    files = [node for _, node in chain(path, shown_as)] if schema is ExperimentConfig else [load(path, shown_as)]
    fields, values = fields_of(schema), defaults(schema)
    for node in files:  # the extended experiments first
        if schema is ExperimentConfig and has_keys_of_recipe(node):
            raise UserError(f"{node.path}: this is a recipe for 'qsd train-reward', not an experiment")
        values.update({name: convert(fields[name], leaf.plain()) for name, leaf in flatten(node, schema).items()})
    missing = [name for name in fields if name not in values or _is_missing(fields[name], values)]
    if missing:
        named = "; ".join(f"'{name}' is missing ({fields[name].why})" for name in missing)
        raise UserError(f"{files[-1].path}:1:1: {named}")
    return values


def _is_missing(info: FieldInfo, values: Flat) -> bool:
    """Whether the experiment's own method must be given a field and is not; a sweep may choose another method."""
    if not info.needed or values[info.name]:
        return False
    from qsd.training.methods import ON_POLICY, method_of

    return method_of(values).on_policy == (info.needed == ON_POLICY)


def override(flat: Flat, assignments: Mapping[str, Any], schema: type = ExperimentConfig) -> Flat:
    """``flat`` with some values replaced, each checked.

    Raises:
        UserError: an unknown name or a wrong value.
    """
    values = dict(flat)
    for dotted, value in assignments.items():
        info = fields_of(schema).get(dotted)
        if info is None:
            raise UserError(unknown_key(dotted, schema))
        text = problem(info, value)
        if text:
            raise UserError(text)
        values[dotted] = convert(info, value)
    return values


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """``{"lora.rank": 8}`` as ``{"lora": {"rank": 8}}``."""
    tree: dict[str, Any] = {}
    for dotted, value in flat.items():
        *sections, name = dotted.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[name] = value
    return tree


def build(flat: Mapping[str, Any]) -> ExperimentConfig:
    """The typed configuration of flat values."""
    return build_as(flat, ExperimentConfig)


def build_as(flat: Mapping[str, Any], schema: type[T]) -> T:
    """The typed configuration of flat values of a schema, through OmegaConf's structured schema."""
    from omegaconf import OmegaConf

    merged = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.create(nested(flat)))
    return cast("T", OmegaConf.to_object(merged))


def load_experiment(path: Path, overrides: Mapping[str, Any] | None = None) -> ExperimentConfig:
    """The typed configuration of an experiment file with overrides by dotted name."""
    return build(override(load_flat(path), overrides or {}))
