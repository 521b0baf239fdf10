"""``ablate wandb``: upload the runs of a sweep, and make a view of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablations.commands.common import RUNS, Experiment, Name, Runs, Settings, app, looked_at
from qsd.errors import UserError

if TYPE_CHECKING:
    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store

group = typer.Typer(help="Show a sweep in Weights & Biases.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(group, name="wandb")

Entity = Annotated[str | None, typer.Option(help="W&B user or team, in place of tracking.entity.", show_default=False)]
Project = Annotated[str | None, typer.Option(help="W&B project, in place of tracking.project.", show_default=False)]


@group.command()
def push(
    name: Name,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    settings: Settings = None,
    project: Project = None,
    entity: Entity = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be uploaded; upload nothing.")] = False,
) -> None:
    """Upload finished and running cells, and the report; a later push sends only what has changed."""
    from ablations.tracking import destination, upload
    from ablations.tracking import project as projection

    plan, store = looked_at(name, experiment, runs, None, settings)
    values = plan.cells[0].values
    project, entity = project or values["tracking.project"], entity or values["tracking.entity"]
    place = destination.place_of(project, entity)
    if not dry_run and not destination.has_login():
        raise UserError(f"there is no login for {destination.host()}; 'wandb login' stores one, '--dry-run' needs none")
    folder = _refreshed(plan, store)
    if values["tracking.wandb"] == "online":
        if dry_run:
            print(_listed(projection.pending(store.root, folder, "online"), place))
            return
        sent = list(projection.send_news(store.root, folder, "online", project, entity))
        print(f"W&B: {_counted(sent)} sent to {place}, online as the experiment says")
        return
    for run_id in projection.send_news(store.root, folder, "offline", project, entity, live=True):
        print(f"written: {run_id}", flush=True)
    waiting = upload.to_upload(store.root, folder, place)
    if dry_run:
        print(_listed(waiting, place))
        return
    for run_id in upload.upload(folder, waiting, project, entity, place):
        print(f"uploaded: {run_id}", flush=True)
    print(f"W&B: {_counted(waiting)} uploaded to {place}" if waiting else f"W&B: {place} has everything already")


@group.command()
def workspace(
    name: Name,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    settings: Settings = None,
    project: Project = None,
    entity: Entity = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the view's specification to this JSON file; save nothing in W&B.")
    ] = None,
) -> None:
    """Save a view of the sweep in W&B: the baseline pinned, differences per judge, images, curves and the report."""
    from ablations.tracking import destination
    from ablations.tracking import workspace as view
    from qsd.files import json_bytes, write_bytes

    plan, store = looked_at(name, experiment, runs, None, settings)
    values = plan.cells[0].values
    project, entity = project or values["tracking.project"], entity or values["tracking.entity"]
    if not entity:
        raise UserError("a view belongs to a W&B user or team: set tracking.entity in the experiment, or --entity")
    if out is None and not destination.has_login():
        raise UserError(
            f"there is no login for {destination.host()}; 'wandb login' stores one, '--out FILE' needs none"
        )
    built = view.sweep_workspace(_refreshed(plan, store), project, entity)
    if out is not None:
        write_bytes(out, json_bytes(view.specification(built), 1))
        print(f"W&B: a view of {plan.name} for {entity}/{project}, not saved there: {out}")
        return
    print(f"W&B: a view of {plan.name}: {view.save(built)}")


def _refreshed(plan: Plan, store: Store) -> Path:
    """The sweep's folder, with the present states, and with tables where something is evaluated.

    Cells that are listed there stay: a run may have had other seeds than the sweep's file.
    """
    from ablations.running import finalize
    from ablations.running.cell_settings import FILE as SETTINGS

    folder = store.sweep(plan.name)
    if (folder / SETTINGS).is_file():
        finalize.refresh_cells(store, folder)
    else:
        finalize.write_cells(plan, store, finalize.commit_of(Path.cwd()))
    if finalize.any_evaluated(folder):
        try:
            finalize.write_tables(store, folder)
        except UserError as error:
            print(f"no table: {error}", flush=True)
    return folder


def _listed(run_ids: list[str], place: str) -> str:
    """What ``--dry-run`` prints: the runs that would be uploaded, and their number."""
    return "\n".join([*(f"to upload: {run_id}" for run_id in run_ids), f"{_counted(run_ids)} to upload to {place}"])


def _counted(run_ids: list[str]) -> str:
    from ablations.formatting import format_count

    return format_count(len(run_ids), "run")
