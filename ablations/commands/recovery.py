"""Commands for use after a failure: retry, cancel, and free disk space."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ablations.commands.common import RUNS, AsJson, Experiment, Gpus, Jobs, Name, Runs, Seeds, Settings, app, planned

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
        bool, typer.Option("--micro-batch-half", help="Halve the batch sizes of stages that ran out of memory.")
    ] = False,
    jobs: Jobs = None,
    gpus: Gpus = None,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    settings: Settings = None,
) -> None:
    """Run failed stages again, and those that wait for them. On the cluster, if they failed there.

    A training that diverged is a result: it is tried again only with --cause non-finite, or if --cell names it.
    """
    from ablations.commands import launch
    from ablations.formatting import format_count
    from ablations.recovery import retry as retrying
    from ablations.running.slots import local_gpus

    chosen_gpus = local_gpus(gpus)
    sweep_plan, store = planned(name, experiment, runs, seeds, settings)
    cells = _cells(sweep_plan, cell)
    choice = retrying.choose(sweep_plan, store, retrying.causes_of(cause, cells), cells)
    stay = ("other failed or diverged stage stays as it is", "other failed or diverged stages stay as they are")
    rest = f"; {format_count(choice.others, *stay)}" if choice.others else ""
    if not choice.failed:
        print(f"nothing to retry{rest}")
        return
    for line in retrying.halve_batches(store, choice) if micro_batch_half else ():
        print(line)
    again = format_count(len(choice.failed), "stage")
    print(f"{again} to try again, {len(choice.keys)} with the stages that wait for them{rest}", flush=True)
    submitted = retrying.submit(sweep_plan, store, choice)
    if submitted is not None:
        print(submitted)
        return
    raise typer.Exit(launch.run(sweep_plan, store, jobs, gpus=chosen_gpus, only=choice.keys))


@app.command()
def cancel(
    name: Name,
    cell: Cells = None,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    settings: Settings = None,
) -> None:
    """Stop all running and queued stages of a sweep. Here and on the cluster; checkpoints are kept."""
    from ablations.recovery import cancel as cancelling

    sweep_plan, store = planned(name, experiment, runs, seeds, settings)
    for line in cancelling.cancel(sweep_plan, store, _cells(sweep_plan, cell)):
        print(line)


def _cells(plan: Plan, names: list[str] | None) -> list[Cell] | None:
    """The cells that ``--cell`` names, with all seeds if a name is given without one; None for all cells.

    A cell whose settings are being tuned stands for its trials.
    """
    from ablations.planning.cells import find_cell, trials_of

    if not names:
        return None
    cells: list[Cell] = []
    for name in names:
        matching = [cell for cell in plan.all_cells if name in (cell.name, cell.label, cell.cell_id)]
        for cell in matching or [find_cell(plan, name)]:
            cells += [cell] if cell.stages else trials_of(plan, cell)
    return list({id(cell): cell for cell in cells}.values())


@app.command()
def gc(
    runs: Runs = RUNS,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the listed files; without this they are only listed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List files that are no longer needed, and delete them if asked. By kind, with sizes."""
    from ablations.grid.spec import SWEEPS
    from ablations.recovery import deletion
    from ablations.recovery.gc import check_is_store, find_garbage
    from ablations.slurm.submit_lock import submit_lock
    from ablations.store.artefacts import Store
    from ablations.store.jobs import QSD, load_table

    table = load_table(QSD)
    check_is_store(runs)
    store = Store(runs, table.key_of)
    with submit_lock(store) if delete else contextlib.nullcontext():  # a submission would begin to use the listed files
        garbage = find_garbage(store, SWEEPS, table)
        print(json.dumps(deletion.as_json(garbage), indent=1) if as_json else "\n".join(deletion.lines(garbage)))
        if delete and garbage.items:
            print(deletion.free(store, garbage), file=sys.stderr if as_json else sys.stdout)
        elif garbage.items and not as_json:
            print("'ablate gc --delete' frees it")
