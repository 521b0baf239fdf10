"""Start a sweep, or go on with it."""

from __future__ import annotations

from typing import Annotated

import typer

from ablations.commands.common import RUNS, Experiment, Gpus, Jobs, Name, Runs, Seeds, app, planned
from qsd.errors import UserError


@app.command()
def run(
    name: Name,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    cluster: Annotated[str, typer.Option(help="Where to run: local.")] = "local",
    jobs: Jobs = None,
    gpus: Gpus = None,
) -> None:
    """Run what is not done, then write and show the tables."""
    from ablations import launch
    from ablations.slots import read_gpus

    if cluster != "local":
        raise UserError(f"unknown cluster {cluster!r}; known: local")
    made, store = planned(name, experiment, runs, seeds)
    raise typer.Exit(launch.run(made, store, jobs, gpus=read_gpus(gpus)))
