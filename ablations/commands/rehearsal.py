"""The command that rehearses a sweep on this machine."""

from __future__ import annotations

import json

import typer

from ablations.commands.common import RUNS, AsJson, Experiment, Gpus, Name, Runs, Seeds, Settings, app, planned


@app.command()
def dryrun(
    name: Name,
    gpus: Gpus = None,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Run a few steps of every shape, and print time and memory. The cost of the whole sweep is computed from them."""
    from ablations.cost import rehearsal
    from ablations.running.slots import local_gpus

    chosen_gpus = local_gpus(gpus)
    sweep_plan, store = planned(name, experiment, runs, seeds, settings)
    results = rehearsal.rehearse(sweep_plan, store, chosen_gpus, quiet=as_json)
    print(json.dumps(results, indent=1) if as_json else "\n".join(rehearsal.lines(results)))
    if results["failed"]["groups"]:
        raise typer.Exit(1)
