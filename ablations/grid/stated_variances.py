"""``variances`` of a sweep's file or of the command line: what a user knows of differences between cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ablations.grid.clauses import mapping
from ablations.grid.values import show
from analysis.data.variances import Variances
from qsd.errors import UserError
from qsd.registry import suggest

if TYPE_CHECKING:
    from qsd.config.yaml_nodes import Node

_PARTS = ("seeds", "prompts", "both")
_EXAMPLE = "{seeds: 4.9e-5, prompts: 0.0012, both: 0.0042}"
OPTION = "--variances"
OPTION_EXAMPLE = "seeds=4.9e-5,prompts=0.0012,both=0.0042"


def read_variances(node: Node) -> Variances:
    """``variances``: a mapping with ``seeds``, ``prompts`` and ``both``.

    Raises:
        UserError: a part is unknown, absent, or no number of at least 0; or all of them are 0.
    """
    values: dict[str, float] = {}
    for name, key, value in mapping(node, "variances", f"; for example  variances: {_EXAMPLE}").items():
        if name not in _PARTS:
            raise key.error(f"unknown key '{name}' in variances{suggest(name, _PARTS)}; known: {', '.join(_PARTS)}")
        number = value.value
        if isinstance(number, bool) or not isinstance(number, int | float) or not _is_variance(float(number)):
            raise value.error(f"variances.{name} must be a number of at least 0, not {show(value.plain())}")
        values[name] = float(number)
    if problem := _problem(values):
        raise node.error(f"variances: {problem}; for example  variances: {_EXAMPLE}")
    return Variances(**values)


def parse_variances(text: str) -> Variances:
    """The same from the command line: ``seeds=4.9e-5,prompts=0.0012,both=0.0042``.

    Raises:
        UserError: as :func:`read_variances`.
    """
    values: dict[str, float] = {}
    for part in text.split(","):
        name, _, written = (piece.strip() for piece in part.partition("="))
        if name not in _PARTS:
            raise UserError(
                f"{OPTION}: unknown part {name!r}{suggest(name, _PARTS)}; known: {', '.join(_PARTS)}; "
                f"for example {OPTION} {OPTION_EXAMPLE}"
            )
        if name in values:
            raise UserError(f"{OPTION}: '{name}' is given twice")
        number = to_float(written)
        if number is None or not _is_variance(number):
            raise UserError(f"{OPTION}: {name} must be a number of at least 0, not {written!r}")
        values[name] = number
    if problem := _problem(values):
        raise UserError(f"{OPTION}: {problem}; for example {OPTION} {OPTION_EXAMPLE}")
    return Variances(**values)


def to_float(text: str) -> float | None:
    """The finite number that a text is, in plain digits; None for any other text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def _is_variance(number: float) -> bool:
    return 0 <= number < math.inf


def _problem(values: dict[str, float]) -> str:
    absent = [name for name in _PARTS if name not in values]
    if absent:
        return f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} missing"
    return "" if any(values.values()) else "at least one must be above 0"
