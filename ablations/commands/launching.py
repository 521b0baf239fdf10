"""Start a sweep, or go on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ablations.commands.common import RUNS, Experiment, Gpus, Jobs, Name, Runs, Seeds, app, planned
from qsd.errors import UserError

if TYPE_CHECKING:
    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store


@app.command()
def run(
    name: Name,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    cluster: Annotated[
        str, typer.Option(help="Where to run: local, or a profile (experiments/clusters/NAME.yaml, or a path).")
    ] = "local",
    canary: Annotated[
        bool, typer.Option("--canary", help="On a cluster: rehearse each shape with a few steps; training waits.")
    ] = False,
    jobs: Jobs = None,
    gpus: Gpus = None,
) -> None:
    """Run what is not done: here, then show the tables; or on a cluster, where this submits and ends."""
    from ablations.commands import launch
    from ablations.running.slots import read_gpus
    from ablations.slurm.profile import find_profile

    if cluster != "local" and (jobs is not None or gpus is not None):
        raise UserError(f"--jobs and --gpus are for this machine; those of a cluster are in its profile ({cluster})")
    if cluster == "local" and canary:
        raise UserError("--canary is for clusters; 'ablate dryrun' rehearses on this machine")
    if cluster != "local":
        find_profile(cluster)  # a mistake in its name should not wait for the plan
    made, store = planned(name, experiment, runs, seeds)
    if cluster != "local" and _submit(made, store, cluster, canary, name, experiment):
        return
    raise typer.Exit(launch.run(made, store, jobs, gpus=read_gpus(gpus)))


@app.command()
def resume(name: Name, runs: Runs = RUNS) -> None:
    """Go on with a sweep where it was last launched; on a cluster, submit exactly what is missing."""
    from ablations.commands import launch
    from ablations.grid.spec import find_sweep
    from ablations.slurm.resubmit import resubmit
    from ablations.store.artefacts import Store
    from ablations.store.launches import latest_launch
    from qsd.stages import spec as stages

    last = latest_launch(Store(runs, stages.key_of), find_sweep(name).stem)
    if last is not None:
        print(resubmit(runs, last.arguments, last.profile))
        return
    made, store = planned(name, None, runs, None)
    raise typer.Exit(launch.run(made, store, None))


def _submit(plan: Plan, store: Store, cluster: str, canary: bool, name: str, experiment: str | None) -> bool:
    """Submit; False if all is done, so that only the tables are left to show."""
    from ablations.slurm.profile import find_profile, read_profile
    from ablations.slurm.submit import submit

    for notice in plan.grid.notices:
        print(f"note: {notice}")
    arguments = {"name": name, "experiment": experiment, "seeds": list(plan.sweep.seeds)}
    done = submit(plan, store, read_profile(find_profile(cluster)), arguments, canary=canary)
    if done.launch is None and not done.queued:
        return False
    print(f"{done}\n'ablate status {name}' shows how far it is; 'ablate resume {name}' submits what was lost")
    return True
