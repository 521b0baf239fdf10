"""The cells of a plan as plain values: the one description that tables, JSON and the files for readers are made of."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from ablations.grid.expand import TRIAL
from ablations.grid.names import short_names
from ablations.grid.values import show
from ablations.planning.look_lines import seed_line
from ablations.planning.tuning_lines import cell_line
from qsd.errors import UserError
from qsd.registry import suggest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ablations.grid.expand import Cell
    from ablations.planning.plan import Plan


def about(cell: Cell) -> dict[str, Any]:
    """What every reader needs to know of one cell with one seed; who needs its stages adds them."""
    return {
        "name": cell.name,
        "role": cell.role,
        "is_baseline": cell.is_baseline,
        "axes": dict(cell.axes),
        "seed": cell.seed,
        "cell_id": cell.cell_id,
    }


def find_cell(plan: Plan, name: str | None) -> Cell:
    """A cell by name (its first seed), by ``name seed N`` or by cell id; the baseline without a name.

    With looks, also a cell with a seed that is not needed; with tuning, also a trial.

    Raises:
        UserError: there is no such cell.
    """
    plan = plan.whole
    if name is None:
        return next(cell for cell in plan.cells if cell.is_baseline)
    for cell in (*plan.cells, *plan.trials):
        if name in (cell.name, cell.label):
            return cell
    for cell in plan.all_cells:
        if cell.stages and name == cell.cell_id:
            return cell
    known = list(dict.fromkeys(cell.name for cell in (*plan.cells, *plan.trials)))
    cell_name, _, seed = name.rpartition(" seed ")
    if cell_name in known:
        seeds = ", ".join(str(cell.seed) for cell in plan.all_cells if cell.name == cell_name and cell.seed is not None)
        has = f"its seeds are {seeds}" if seeds else "it is not trained, so it has no seeds"
        raise UserError(f"{plan.sweep.shown}: cell {cell_name!r} has no seed {seed}; {has}")
    listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    raise UserError(f"{plan.sweep.shown}: unknown cell {name!r}{suggest(name, known)}; known: {listed}")


def trials_of(plan: Plan, cell: Cell) -> list[Cell]:
    """The trials that choose the setting of a cell; none without tuning."""
    settings = plan.tuning.trials.cells.get(cell.name, ()) if plan.tuning else ()
    return [trial for seeds in settings for trial in seeds]


def listed(plan: Plan) -> list[dict[str, Any]]:
    """:func:`about` every cell, with tuning also the trials, with looks also seeds that are not needed.

    Where there are any, "tuning" says what a cell has to do with the tuning, and "looks" what each seed is for.
    """
    titles = _progress_titles(plan)
    return [about(cell) | dict(zip(titles, _progress_of(plan, cell), strict=True)) for cell in plan.whole.all_cells]


def fields(plan: Plan) -> list[str]:
    """Dotted names of everything that some cell sets, axes first, in the order of the file."""
    names = dict.fromkeys(plan.sweep.varies)
    for cell in plan.all_cells:
        names.update(dict.fromkeys(cell.axes))
    return [name for name in names if any(name in cell.axes for cell in plan.all_cells)]


def as_csv(plan: Plan) -> str:
    """One line per cell and seed, one column per field; a field that a cell does not set is empty."""
    names = fields(plan)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["cell_id", "cell", "role", "seed", *names, *_progress_titles(plan)])
    for cell in plan.whole.all_cells:
        values = [show(cell.axes[name]) if name in cell.axes else "" for name in names]
        seed = "" if cell.seed is None else cell.seed
        writer.writerow([cell.cell_id, cell.name, _role(cell), seed, *values, *_progress_of(plan, cell)])
    return stream.getvalue()


def as_table(plan: Plan) -> Iterator[str]:
    """Aligned columns: id, role, seed, then one per field under its short name, and what tuning and looks say of it."""
    names = fields(plan)
    short = short_names(names)
    rows = [["cell id", "role", "seed", *(short[name] for name in names), *_progress_titles(plan)]]
    for cell in plan.whole.all_cells:
        values = [show(cell.axes[name]) if name in cell.axes else "-" for name in names]
        seed = "-" if cell.seed is None else str(cell.seed)
        rows.append([cell.cell_id or "after tuning", _role(cell), seed, *values, *_progress_of(plan, cell)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip()


def _progress_titles(plan: Plan) -> list[str]:
    return [*(["tuning"] if plan.tuning else []), *(["looks"] if plan.looks else [])]


def _progress_of(plan: Plan, cell: Cell) -> list[str]:
    """What tuning and looks say of a cell, as far as the sweep has them."""
    looks = [seed_line(plan.looks, cell) if cell.role != TRIAL else ""] if plan.looks else []
    return [*([cell_line(plan, cell)] if plan.tuning else []), *looks]


def _role(cell: Cell) -> str:
    return "baseline" if cell.is_baseline else cell.role
