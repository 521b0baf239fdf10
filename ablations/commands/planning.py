"""Before a run: what a sweep means, and why stages are or are not done."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ablations.commands.common import RUNS, AsJson, Experiment, Name, Runs, Seeds, app, planned
from qsd.errors import UserError


@app.command()
def plan(
    name: Name,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    cluster: Annotated[str, typer.Option(help="Where it is to run: local, or a profile of a cluster.")] = "local",
    parallel: Annotated[
        int | None, typer.Option(min=1, help="Stages at a time; by default what the place does.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a sweep's cells and unique stages, what is done, and what the rest will cost."""
    from ablations.cost.estimate import estimate, find_site
    from ablations.planning import display
    from ablations.planning import plan as planning
    from ablations.planning.missing_inputs import AbsentTable
    from ablations.running import precompute
    from ablations.store import states
    from ablations.store.divergence import with_followers
    from qsd.stages import spec as stages

    table = AbsentTable()
    try:
        made, store = planned(name, experiment, runs, seeds, table)
    except UserError as error:
        raise table.beside(error) from None
    site = find_site(cluster, parallel, str(made.cells[0].values["device"]))
    found = states.states(store, made.nodes)
    diverged = {key for key in made.nodes if found[key] == states.DIVERGED}
    settled = with_followers(made.nodes, diverged) | {key for key in made.nodes if found[key] == states.DONE}
    left = {key: node for key, node in made.nodes.items() if key not in settled}
    together = precompute.summary(precompute.groups(left, stages, precompute.MOST))
    costs = estimate(made, store, found, site)
    costs["assumed"] += table.remarks()
    summary = planning.summary(made, found) | {"estimate": costs, "ahead": together}
    if as_json:
        print(json.dumps(summary | {"list": display.cells_as_json(made, found)}, indent=1))
    else:
        display.print_plan(made, summary)


@app.command()
def cells(
    name: Name,
    experiment: Experiment = None,
    seeds: Seeds = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated, one line per cell and seed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print all that a sweep means: every cell with its role, its seed, its id and what it sets."""
    from ablations.planning import cells as listing

    if as_csv and as_json:
        raise UserError("--csv and --json exclude each other")
    made, _ = planned(name, experiment, RUNS, seeds)
    if as_csv:
        print(listing.as_csv(made), end="")
    elif as_json:
        print(json.dumps([listing.about(cell) for cell in made.cells], indent=1))
    else:
        for line in listing.as_table(made):
            print(line)
        for notice in made.grid.notices:
            print(f"note: {notice}")


@app.command()
def explain(
    name: Name,
    cell: Annotated[str | None, typer.Argument(help="A cell by name or id; the baseline if not given.")] = None,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
) -> None:
    """Say, field by field, why each stage of a cell is or is not done."""
    from ablations.planning import explain as explaining
    from ablations.planning.cells import find_cell
    from ablations.store import states

    made, store = planned(name, experiment, runs, seeds)
    found = states.states(store, made.nodes)
    for line in explaining.explain(made, find_cell(made, cell), store, found):
        print(line)


@app.command()
def diff(
    name: Name,
    left: Annotated[str, typer.Argument(help="A cell by name, by 'NAME seed N' or by id.", show_default=False)],
    right: Annotated[str, typer.Argument(help="Another cell.", show_default=False)],
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    as_json: AsJson = False,
) -> None:
    """Show how two cells differ: configuration, stages, and the code and machines that ran them."""
    from ablations.planning import diff as comparing
    from ablations.planning.cells import find_cell

    made, store = planned(name, experiment, runs, seeds)
    found = comparing.diff(find_cell(made, left), find_cell(made, right), store)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        comparing.print_diff(found)
