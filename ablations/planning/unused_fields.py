"""What a sweep sets and its cells do not read is refused before anything runs: neither keys nor results would tell.

The experiment serves all cells, so it may give a field for some of them. A sweep says more: a field that no stage of
any cell reads, or a value of one cell's own that no stage of this cell reads, is a mistake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ablations.grid.combinations import matches
from ablations.grid.expand import BASE, TRIAL
from ablations.grid.keys import Remembered
from ablations.grid.places import place_of
from ablations.grid.values import REPLICATE, show
from ablations.planning.unused_reason import reason
from qsd.config.check import schema_fields
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ablations.grid.expand import Cell
    from ablations.grid.keys import StageTable
    from ablations.grid.spec import Sweep
    from qsd.config.load import Flat


def check_used(sweep: Sweep, stated: Flat, experiment: Flat, cells: Sequence[Cell], table: StageTable) -> None:
    """Refuse settings that no cell reads, and values of a cell's own that it does not read.

    A value that the experiment has anyway is no mistake, such as in a zip group with cells that read the field, unless
    a stage says that it has no use for the field. Cells that differ only in what they do not read are one cell already,
    which a notice of the plan says; an axis gives its values to all cells, and a control has those of the baseline, so
    these need not be read by each.

    Args:
        sweep: what its file and the command line set.
        stated: flat values of the experiment's own files.
        experiment: the same, with what the sweep sets for all cells.
        cells: its cells and, if they are tuned, its trials.
        table: the stages.

    Raises:
        UserError: with the place, the field and why it is not read.
    """
    reading = _Reading(sweep, table)
    trained = list({cell.name: cell for cell in cells if cell.role != BASE}.values())
    _check_all(sweep, stated, trained, reading)
    for cell in trained if sweep.zips or sweep.controls or sweep.include else ():
        for clause, name, value in _own(sweep, cell):
            usual = (experiment[name], schema_fields()[name].default)
            if value in usual or reading.reads(cell, name):
                continue
            raise UserError(
                f"{place_of(sweep.shown, name, (clause,))}: cell '{cell.name}' has {name} {show(value)} and no use "
                f"for it: {reason(name, [cell], table)}; give this cell {show(experiment[name])}, the value of the "
                "experiment"
            )


def _check_all(sweep: Sweep, stated: Flat, trained: Sequence[Cell], reading: _Reading) -> None:
    """Refuse a field that the sweep sets and no cell reads."""
    values: dict[str, list[Any]] = {name: list(values) for name, values in sweep.varies.items() if name != REPLICATE}
    for name, value in [*sweep.fixed.items(), *(each for control in sweep.controls for each in control.items())]:
        if name != REPLICATE:
            values.setdefault(name, []).append(value)
    unread = set(values)
    for cell in trained:
        if not unread:
            return
        unread = {name for name in unread if not reading.reads(cell, name)}
    for name in values:
        if name not in unread or not (reading.declares(trained, name) or any(v != stated[name] for v in values[name])):
            continue
        of_file = place_of(sweep.shown, name)
        place = f"--set {name}={show(sweep.settings[name])}: {sweep.shown}" if name in sweep.settings else of_file
        raise UserError(
            f"{place}: no cell of this sweep has a use for {name}: {reason(name, trained, reading.table)}; leave it out"
        )


def _own(sweep: Sweep, cell: Cell) -> Iterator[tuple[str, str, Any]]:
    """(clause, field, value) of what the sweep's file says of one cell, or of a row of cells, and not of all."""
    if cell.role == TRIAL:
        return
    zipped = {name for group in sweep.zips for name in group} if cell.role == "grid" else set()
    for name, value in cell.axes.items():
        if name == REPLICATE:
            continue
        if name in zipped:
            yield "zip", name, value
        elif sweep.baseline.get(name, _ABSENT) != value:
            if cell.role == "control" and any(control.get(name, _ABSENT) == value for control in sweep.controls):
                yield "controls", name, value
            elif any(name in entry and matches(cell.axes, entry) for entry in sweep.include):
                yield "include", name, value


_ABSENT = object()


class _Reading:
    """What the stages of cells read, remembered by the values that decide it."""

    def __init__(self, sweep: Sweep, table: StageTable) -> None:
        tuned = sweep.tune.fields if sweep.tune else ()
        varying = {*sweep.varies, *tuned, *(name for control in sweep.controls for name in control), "seed", "adapter"}
        varying |= {name for name in schema_fields() if name.startswith("evaluation.")} if tuned else set()
        self.table = table
        self._fields = {name: Remembered(spec.fields, varying) for name, spec in table.STAGES.items()}

    def reads(self, cell: Cell, name: str) -> bool:
        """Whether a stage of a cell reads a field."""
        return any(name in self._fields[stage](cell.values) for stage in cell.stages)

    def declares(self, cells: Sequence[Cell], name: str) -> bool:
        """Whether a stage of one of the cells says that it has no use for a field."""
        return any(name in unused for cell in cells for unused in _declared(cell, self.table))


def _declared(cell: Cell, table: StageTable) -> Iterator[Mapping[str, str]]:
    return (table.STAGES[stage].unused(cell.values) for stage in cell.stages)
