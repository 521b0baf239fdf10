"""Why no stage of some cells reads a field, for the message that refuses it."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING

from qsd.config.check import registry_of, schema_fields
from qsd.config.members import MemberSection
from qsd.config.schema import ExperimentConfig
from qsd.registry import BrokenMemberError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ablations.grid.expand import Cell
    from ablations.grid.keys import StageTable


def reason(name: str, cells: Sequence[Cell], table: StageTable) -> str:
    """What takes the place of a field, or which stages or members read it.

    Args:
        name: of a field that no stage of the cells reads.
        cells: one or more.
        table: the stages.
    """
    for cell in cells:
        for stage in cell.stages:
            instead = table.STAGES[stage].unused(cell.values).get(name)
            if instead:
                return instead
    absent = [stage for stage in table.STAGES if all(stage not in cell.stages for cell in cells)]
    readers = [stage for stage in absent if name in table.STAGES[stage].fields(cells[0].values)]
    if readers:
        return f"only stage {' and '.join(readers)} reads it, which is not needed here"
    members = _members(name, cells)
    return f"only {members} reads it" if members else "beside the other settings it has no effect"


def _members(name: str, cells: Sequence[Cell]) -> str:
    """The members that have a setting, if none of the cells has one of them; empty otherwise."""
    section, _, setting = name.rpartition(".")
    kind = typing.get_type_hints(ExperimentConfig).get(section)
    if not (isinstance(kind, type) and issubclass(kind, MemberSection)):
        return ""
    chooser = next(info for info in schema_fields().values() if info.registry == kind.members)
    registry = registry_of(chooser)
    assert registry is not None, chooser
    having = []
    for member in registry.names():
        try:
            having += [member] if setting in registry.get(member).fields else []
        except BrokenMemberError:
            continue
    chosen = {cell.values[chooser.name] for cell in cells}
    return f"{chooser.name} {' or '.join(having)}" if having and not chosen & set(having) else ""
