"""Before a run: what a sweep means, and why stages are or are not done."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ablations.commands.common import RUNS, AsJson, Experiment, Name, Runs, Seeds, app, planned


@app.command()
def plan(
    name: Name, experiment: Experiment = None, runs: Runs = RUNS, seeds: Seeds = None, as_json: AsJson = False
) -> None:
    """Show the cells of a sweep, its unique stages, and what is done already."""
    from ablations import board, states
    from ablations import plan as planning

    made, store = planned(name, experiment, runs, seeds)
    found = states.states(store, made.nodes)
    if as_json:
        print(json.dumps(planning.summary(made, found) | {"list": board.cells_as_json(made, found)}, indent=1))
    else:
        board.print_plan(made, planning.summary(made, found))


@app.command()
def explain(
    name: Name,
    cell: Annotated[str | None, typer.Argument(help="A cell by name or id; the baseline if not given.")] = None,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
) -> None:
    """Say, field by field, why each stage of a cell is or is not done."""
    from ablations import explain as explaining
    from ablations import states

    made, store = planned(name, experiment, runs, seeds)
    found = states.states(store, made.nodes)
    for line in explaining.explain(made, explaining.find_cell(made, cell), store, found):
        print(line)
