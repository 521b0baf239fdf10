"""``settings.json``: the settings of every cell, for readers who want more than what the sweep varies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.config.check import schema_fields
from qsd.config.fields import Kind
from qsd.stages.spec import STAGES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ablations.grid.expand import Cell

FILE = "settings.json"


def cell_settings(cells: Iterable[Cell]) -> dict[str, Any]:
    """The content of ``settings.json``: cell id -> dotted name -> value.

    A cell has the settings that its stages read, and how those sections are executed: the base model has no rank, and a
    loss without β has no β. Where a field has the effect of another value, it has that one: a method's own default in
    place of null. Where results are tracked is no setting of a cell.
    """
    return {cell.cell_id: _settings(cell) for cell in cells}


def _settings(cell: Cell) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for stage in cell.stages:
        if stage in STAGES:
            read |= STAGES[stage].settings(cell.values)
    sections = {_section(name) for name in read}
    return {
        name: read.get(name, cell.values[name])
        for name, info in schema_fields().items()
        if name in cell.values and (name in read or (info.kind is Kind.EXECUTION and _section(name) in sections))
    }


def _section(name: str) -> str:
    """``lora`` of ``lora.rank``; empty for a field outside sections, which every cell has."""
    return name.rpartition(".")[0]
