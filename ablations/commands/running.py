"""Start a sweep, or go on with it."""

from __future__ import annotations

from typing import Annotated

import typer

from ablations.commands.common import RUNS, Experiment, Name, Runs, Seeds, app, planned
from qsd.errors import UserError


@app.command()
def run(
    name: Name,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    cluster: Annotated[str, typer.Option(help="Where to run: local.")] = "local",
    jobs: Annotated[int | None, typer.Option(min=1, help="Stages at a time; by default 2, or 1 on one core.")] = None,
) -> None:
    """Run what is not done, then write and show the tables."""
    from ablations import launch

    if cluster != "local":
        raise UserError(f"unknown cluster {cluster!r}; known: local")
    made, store = planned(name, experiment, runs, seeds)
    raise typer.Exit(launch.run(made, store, jobs))
