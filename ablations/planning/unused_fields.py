"""What a sweep sets for cells that have no use for it (``StageSpec.unused``) is refused before anything runs.

The experiment serves all cells, so it may give such a field for the others. A sweep says more: an override that no cell
uses, or a value of one cell's own that changes nothing there, is a mistake, since keys and results would not tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ablations.grid.expand import BASE, TRIAL
from ablations.grid.values import show
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ablations.grid.expand import Cell
    from ablations.grid.keys import StageTable
    from ablations.grid.spec import Sweep
    from qsd.config.load import Flat


def check_used(sweep: Sweep, experiment: Flat, cells: Sequence[Cell], table: StageTable) -> None:
    """Refuse settings for all cells that no cell uses, and values of a cell's own that it does not use.

    A cell that does not use a field may have the experiment's value of it, such as in a zip group with cells that do.
    Cells that differ only in what they do not use are one cell already, which a notice of the plan says.

    Args:
        sweep: what its file and the command line set.
        experiment: flat values of the experiment, with what the sweep sets for all cells.
        cells: its cells and, if they are tuned, its trials.
        table: the stages.

    Raises:
        UserError: with the field and what takes its place.
    """
    one_seed = {cell.name: cell for cell in cells if cell.role != BASE}
    trained = [(cell, _unused(cell, table)) for cell in one_seed.values()]
    for cell, unused in trained:
        for name, instead in unused.items():
            if cell.role != TRIAL and name in cell.axes and cell.axes[name] != experiment[name]:
                raise UserError(
                    f"{sweep.shown}: cell '{cell.name}' has {name} {show(cell.axes[name])} and no use for it: {instead}"
                    f"; give this cell {show(experiment[name])}, the value of the experiment"
                )
    for name, value in sweep.fixed.items():
        instead = next((unused[name] for _, unused in trained if name in unused), "")
        if instead and all(name in unused for _, unused in trained):
            place = (
                f"--set {name}={show(value)}: {sweep.shown}" if name in sweep.settings else f"{sweep.shown}: overrides"
            )
            raise UserError(f"{place}: no cell of this sweep has a use for {name}: {instead}; leave it out")


def _unused(cell: Cell, table: StageTable) -> Mapping[str, str]:
    """Fields for which no stage of a cell has a use."""
    return {name: text for stage in cell.stages for name, text in table.STAGES[stage].unused(cell.values).items()}
