"""After a failure: try again, stop, and free space."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ablations.commands.common import RUNS, AsJson, Experiment, Gpus, Jobs, Name, Runs, Seeds, app, planned

if TYPE_CHECKING:
    from ablations.grid.expand import Cell
    from ablations.planning.plan import Plan

Cells = Annotated[
    list[str] | None, typer.Option("--cell", help="Only this cell, by name, 'NAME seed N' or id; may be repeated.")
]


@app.command()
def retry(
    name: Name,
    cause: Annotated[
        str | None,
        typer.Option(help="Only failures of this cause, as 'ablate failures' names it; by default all but non-finite."),
    ] = None,
    cell: Cells = None,
    micro_batch_half: Annotated[
        bool, typer.Option("--micro-batch-half", help="Halve the batches of stages that ran out of memory.")
    ] = False,
    jobs: Jobs = None,
    gpus: Gpus = None,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
) -> None:
    """Run failed stages again and what waits for them, on the cluster if they failed there.

    A training that diverged is a result: it is tried again only with --cause non-finite, or if --cell names it.
    """
    from ablations.commands import launch
    from ablations.recovery import retry as again
    from ablations.running.slots import read_gpus

    made, store = planned(name, experiment, runs, seeds)
    cells = _cells(made, cell)
    choice = again.choose(made, store, again.causes_of(cause, cells), cells)
    others = f"; {choice.others} other failed or diverged stage(s) stay as they are" if choice.others else ""
    if not choice.failed:
        print(f"nothing to try again{others}")
        return
    for line in again.halve_batches(store, choice) if micro_batch_half else ():
        print(line)
    print(
        f"{len(choice.failed)} stage(s) to try again, {len(choice.keys)} with what waits for them{others}", flush=True
    )
    submitted = again.submit(made, store, choice)
    if submitted is not None:
        print(submitted)
        return
    raise typer.Exit(launch.run(made, store, jobs, gpus=read_gpus(gpus), only=choice.keys))


@app.command()
def cancel(
    name: Name, cell: Cells = None, experiment: Experiment = None, runs: Runs = RUNS, seeds: Seeds = None
) -> None:
    """End what runs or waits for a sweep, here and on the cluster; checkpoints stay."""
    from ablations.recovery import cancel as ending

    made, store = planned(name, experiment, runs, seeds)
    for line in ending.cancel(made, store, _cells(made, cell)):
        print(line)


def _cells(plan: Plan, names: list[str] | None) -> list[Cell] | None:
    """The cells of ``--cell``, with all seeds where a name is given without one; None for all."""
    from ablations.planning.cells import find_cell

    if not names:
        return None
    found: list[Cell] = []
    for name in names:
        matching = [cell for cell in plan.cells if name in (cell.name, cell.label, cell.cell_id)]
        found += matching or [find_cell(plan, name)]
    return found


@app.command()
def gc(
    runs: Runs = RUNS,
    delete: Annotated[bool, typer.Option("--delete", help="Free it; without this, only look.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what nobody needs any more, by kind with sizes, and free it if asked."""
    from ablations.grid.spec import SWEEPS
    from ablations.recovery import deletion
    from ablations.recovery.gc import find_garbage
    from ablations.slurm.submit_lock import submit_lock
    from ablations.store.artefacts import Store
    from ablations.store.jobs import QSD, load_table

    table = load_table(QSD)
    store = Store(runs, table.key_of)
    with submit_lock(store) if delete else contextlib.nullcontext():  # nothing is submitted meanwhile
        found = find_garbage(store, SWEEPS, table)
        print(json.dumps(deletion.as_json(found), indent=1) if as_json else "\n".join(deletion.lines(found)))
        if delete and found.items:
            print(deletion.free(store, found), file=sys.stderr if as_json else sys.stdout)
        elif found.items and not as_json:
            print("'ablate gc --delete' frees it")
