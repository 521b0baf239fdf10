"""How far a sweep is, and its results."""

from __future__ import annotations

import json
from pathlib import Path

from ablations.commands.common import RUNS, AsJson, Experiment, Name, Runs, Seeds, app, planned
from qsd.errors import UserError


@app.command()
def status(
    name: Name, experiment: Experiment = None, runs: Runs = RUNS, seeds: Seeds = None, as_json: AsJson = False
) -> None:
    """Show how far a sweep is: each cell's stage, progress, and failures with their logs."""
    from ablations import status as looking

    made, store = planned(name, experiment, runs, seeds)
    found = looking.status(made, store)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        looking.print_status(found)


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
