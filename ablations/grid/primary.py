"""``primary`` of a sweep: the scorer and the split whose comparisons decide; the others are exploratory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.grid.clauses import mapping
from ablations.grid.values import show
from analysis.data.sweep import split_order
from qsd.errors import UserError
from qsd.registry import suggest
from qsd.stages.judges import default_primary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qsd.config.yaml_nodes import Node

_FIELDS = {"scorer": "evaluation.scorers", "split": "evaluation.splits"}


@dataclass(frozen=True)
class Primary:
    """What a sweep's file says, each with its place (``path:line:column``) for messages; None: the default.

    Attributes:
        scorer: one of ``evaluation.scorers``.
        split: one of ``evaluation.splits``.
    """

    scorer: str | None = None
    split: str | None = None
    places: Mapping[str, str] | None = None


def read_primary(node: Node) -> Primary:
    """``primary``: a mapping with ``scorer``, ``split`` or both.

    Raises:
        UserError: another key, or a value that is no text.
    """
    values: dict[str, str] = {}
    places: dict[str, str] = {}
    for name, key, value in mapping(node, "primary").items():
        if name not in _FIELDS:
            raise key.error(f"unknown key '{name}' in primary{suggest(name, _FIELDS)}; known: scorer, split")
        if not isinstance(value.value, str):
            raise value.error(f"primary.{name} must be the name of a {name}, not {show(value.plain())}")
        values[name], places[name] = value.value, str(value.error("")).rstrip(": ")
    return Primary(values.get("scorer"), values.get("split"), places)


def resolve(primary: Primary, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """{"scorer", "split", "stated"} of a sweep whose cells have these flat configurations.

    By default the scorer is the first of ``evaluation.scorers`` that selected or labelled in no cell, and the split the
    first of ``evaluation.splits``, held-out prompts before others; of those that all cells are evaluated with, if any.

    Raises:
        UserError: the file names one that some cell is not evaluated with.
    """
    chosen = {"scorer": primary.scorer, "split": primary.split}
    for name, field in _FIELDS.items():
        value = chosen[name]
        for cell in cells if value is not None else ():
            if value not in cell[field]:
                place = (primary.places or {}).get(name, "primary")
                known = ", ".join(cell[field])
                raise UserError(f"{place}: '{value}' is not in {field} ({known}){suggest(str(value), cell[field])}")
    return {
        "scorer": chosen["scorer"] or default_primary(_common(cells, "evaluation.scorers"), cells),
        "split": chosen["split"] or min(_common(cells, "evaluation.splits"), key=split_order),
        "stated": primary.scorer is not None,
    }


def _common(cells: Sequence[Mapping[str, Any]], field: str) -> list[str]:
    """The entries of a list that all cells have, in the order of the first; all of the first's if there is none."""
    lists = {tuple(cell[field]) for cell in cells}
    first = list(cells[0][field])
    return [name for name in first if all(name in other for other in lists)] or first
