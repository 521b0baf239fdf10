"""A rehearsal on this machine."""

from __future__ import annotations

import json

import typer

from ablations.commands.common import RUNS, AsJson, Experiment, Gpus, Name, Runs, Seeds, app, planned


@app.command()
def dryrun(
    name: Name,
    gpus: Gpus = None,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    as_json: AsJson = False,
) -> None:
    """Take each distinct shape through every stage with a handful of steps; time, memory, and what all would take."""
    from ablations.cost import rehearsal
    from ablations.running.slots import read_gpus

    made, store = planned(name, experiment, runs, seeds)
    found = rehearsal.rehearse(made, store, read_gpus(gpus), quiet=as_json)
    print(json.dumps(found, indent=1) if as_json else "\n".join(rehearsal.lines(found)))
    if found["failed"]["groups"]:
        raise typer.Exit(1)
