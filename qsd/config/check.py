"""Check a value against the schema: the text of what is wrong, or None."""

from __future__ import annotations

import importlib
import math
import operator
import os
import types
import typing
from typing import Any

from qsd.config.fields import REQUIRED, FieldInfo, Kind, fields_of, groups_of
from qsd.config.members import BROKEN
from qsd.config.schema import ExperimentConfig
from qsd.config.unclear import Unclear
from qsd.data.prompt_sets import FIELDS as PROMPT_FIELDS
from qsd.data.prompt_sets import place_of
from qsd.evaluation.embedding_measures import MEASURES
from qsd.printable import is_printable
from qsd.registry import Registry, suggest, suggest_field

OF_IMAGES = (
    "evaluation.prompts",
    "evaluation.splits",
    "evaluation.prompts_per_split",
    "generation.images_per_prompt",
)
"""Fields that say which images are generated: cells with other values cannot be paired."""
NO_AXES = ("seed", "adapter", "evaluation.embedder", *OF_IMAGES)
"""Fields that change results and that no sweep varies; ``ablations.grid.values`` says why."""
_REWARD_MODELS = "qsd.rewards.scorers"
_TYPE_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def schema_fields() -> dict[str, FieldInfo]:
    """Every leaf of the experiment schema by dotted name."""
    return fields_of(ExperimentConfig)


def registry_of(info: FieldInfo) -> Registry[Any] | None:
    """The registry whose member names a field takes, if any."""
    if info.registry is None:
        return None
    registry: Registry[Any] = importlib.import_module(info.registry).REGISTRY
    return registry


def unknown_key(dotted: str, schema: type = ExperimentConfig) -> str:
    """The message for a dotted name that the schema does not have."""
    fields = fields_of(schema)
    if dotted in groups_of(schema):
        example = next(name for name in fields if name.startswith(f"{dotted}."))
        return f"'{dotted}' is a section; name one of its fields, such as '{example}'"
    broken = f"; its file may be one that cannot be read: {'; '.join(BROKEN)}" if BROKEN else ""
    return f"unknown key '{dotted}'{suggest_field(dotted, fields, sorted(groups_of(schema)))}{broken}"


def problem(info: FieldInfo, value: Any) -> str | None:
    """What is wrong with ``value`` for a field, or None when it is right."""
    if info.needed and value == info.default:
        return None  # as if it were not given; a method that needs it refuses that
    allowed, optional = _allowed(info.type)
    if value is None:
        return None if optional else f"{info.name} must be {_TYPE_NAMES.get(allowed, 'given')}, not null"
    if typing.get_origin(allowed) is list:
        return _list_problem(info, typing.get_args(allowed)[0], value)
    return _scalar_problem(info, allowed, value)


def convert(info: FieldInfo, value: Any) -> Any:
    """A checked value in the field's own type: a whole number as a float where the field is one, ``~`` as the home.

    The name of a published set of prompts becomes the path of its file (``qsd.data.prompt_sets``).
    """
    allowed, _ = _allowed(info.type)
    if info.name in PROMPT_FIELDS and isinstance(value, str):
        value = place_of(value)
    if info.kind is Kind.LOCATION and isinstance(value, str) and value.startswith("~"):
        return os.path.expanduser(value)  # noqa: PTH111 (a text, and stays one)
    return float(value) if allowed is float and value is not None else value


def _allowed(hint: Any) -> tuple[Any, bool]:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        members = [member for member in typing.get_args(hint) if member is not type(None)]
        return members[0], True
    return hint, False


def _list_problem(info: FieldInfo, inner: type, value: Any) -> str | None:
    if not isinstance(value, list):
        return f"{info.name} must be a list, not {value!r}"
    if not value:
        return f"{info.name} must not be empty"
    for item in value:
        text = _scalar_problem(info, inner, item)
        if text:
            return text
    if len(set(value)) < len(value):
        return f"{info.name} names something twice: {value!r}"
    return None


def _scalar_problem(info: FieldInfo, allowed: type, value: Any) -> str | None:
    wrong_type = f"{info.name} must be {_TYPE_NAMES[allowed]}, not {_shown(value)}"
    if allowed is str and isinstance(value, Unclear) and not info.choices:
        return f"{info.name} must be text, not {value.in_quotes}"
    if allowed is str and isinstance(value, bool | int | float):
        wrong_type += f"; known: {', '.join(info.choices)}" if info.choices else "; put it in quotes"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        return f"{info.name} is a number of {len(_shown(value))} digits; that is too large"
    if isinstance(value, bool) != (allowed is bool):
        return wrong_type
    if allowed is float and isinstance(value, int):
        value = float(value)
    if not isinstance(value, allowed):
        return wrong_type
    if isinstance(value, float) and not math.isfinite(value):
        return f"{info.name} must be finite, not {value!r}"
    if isinstance(value, str):
        return _text_problem(info, value)
    if isinstance(value, int | float):
        return _range_problem(info, value)
    return None


def _shown(value: Any) -> str:
    """A value for messages; a number of thousands of digits is not written out."""
    try:
        return repr(value)
    except ValueError:  # Python refuses to write an integer of more than 4,300 digits
        return "a number of thousands of digits"


def _text_problem(info: FieldInfo, value: str) -> str | None:
    if not value.strip() or value == REQUIRED:
        return f"{info.name} must not be empty"
    if "${" in value and not info.shell:
        return f"{info.name}: ${{...}} is not replaced here, in {value!r}; write out what it stands for"
    if not is_printable(value):
        return f"{info.name} must be one line of printable text, not {value!r}"
    registry = registry_of(info)
    if info.registry == _REWARD_MODELS and value in MEASURES:
        return (
            f"{value!r} is not a reward model but a measure of images, which evaluation.embedder adds to the scores; a "
            "reward model of this name must be renamed"
        )
    if registry is not None and value not in registry.names():
        return registry.unknown(value)
    if info.name == "reward.model" and registry is not None and not registry.get(value).selects:
        allowed = [name for name in registry.names() if registry.get(name).selects]
        return f"reward model {value!r} is an independent judge and must never rank pairs; use {' or '.join(allowed)}"
    if info.name == "evaluation.embedder":
        return _embedder_problem(value)
    if info.choices and value not in info.choices:
        return f"unknown {info.name} {value!r}{suggest(value, info.choices)}; known: {', '.join(info.choices)}"
    return None


def _embedder_problem(name: str) -> str | None:
    from qsd.rewards.embedders import embedders, embeds

    if embeds(name):
        return None
    return f"reward model {name!r} has no image embedding; evaluation.embedder can be {', '.join(embedders())}"


def _range_problem(info: FieldInfo, value: float) -> str | None:
    limits = (
        ("above", info.above, operator.gt),
        ("at least", info.least, operator.ge),
        ("below", info.below, operator.lt),
        ("at most", info.most, operator.le),
    )
    if all(limit is None or holds(value, limit) for _, limit, holds in limits):
        return None
    bounds = [f"{word} {_written(limit)}" for word, limit, _ in limits if limit is not None]
    unit = " (percent of the pairs)" if info.name == "selection.fraction" else ""
    return f"{info.name} must be {' and '.join(bounds)}{unit}, not {_written(value)}"


def _written(number: float) -> str:
    """A number for messages; whole ones with all their digits."""
    return str(number) if isinstance(number, int) else f"{number:g}"


def is_axis(info: FieldInfo) -> bool:
    """True for fields that a sweep may vary: those that change results, except where paths differ."""
    return info.kind is not Kind.EXECUTION and info.name not in NO_AXES
