"""How far a sweep is, and its results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ablations.commands.common import RUNS, AsJson, Experiment, Name, Runs, Seeds, app, planned
from qsd.errors import UserError


@app.command()
def status(
    name: Name,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    once: Annotated[bool, typer.Option("--once", help="One look, also on a terminal.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how far a sweep is, on a terminal live: each cell's stage, progress, time left and place; and failures."""
    from ablations import status as looking
    from ablations import watch
    from ablations.display import on_terminal

    made, store = planned(name, experiment, runs, seeds)
    live = on_terminal() and not once and not as_json
    found = watch.watch(made, store) if live else looking.status(made, store)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(looking.status_lines(found)))


@app.command()
def table(name: Name, experiment: Experiment = None, runs: Runs = RUNS, seeds: Seeds = None) -> None:
    """Rebuild and show the tables of a sweep."""
    from ablations import finish, states

    made, store = planned(name, experiment, runs, seeds)
    found = states.states(store, made.nodes)
    missing = sum(state != states.DONE for state in found.values())
    if missing:
        raise UserError(f"{missing} of {len(found)} stages are not done; run 'ablate run {name}' first")
    folder = finish.write_cells(made, store, Path.cwd())
    finish.write_tables(store, folder)
    print(finish.render(folder))
