"""Commands that start or continue a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ablations.commands.common import RUNS, Experiment, Gpus, Jobs, Name, Runs, Seeds, Settings, app, looked_at, planned
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
    settings: Settings = None,
    cluster: Annotated[
        str, typer.Option(help="Where to run: local, or a profile (experiments/clusters/NAME.yaml, or a path).")
    ] = "local",
    canary: Annotated[
        bool, typer.Option("--canary", help="On a cluster: first run a few steps of each shape; trainings wait for it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="On a cluster: print the sbatch scripts and submit nothing.")
    ] = False,
    jobs: Jobs = None,
    gpus: Gpus = None,
) -> None:
    """Run everything that is not done, here or on a cluster.

    On this machine the tables follow; a cluster gets the jobs, and the command exits.
    """
    from ablations.commands import launch
    from ablations.running.display import on_terminal
    from ablations.running.slots import local_gpus
    from ablations.slurm.profile import find_profile

    if cluster != "local" and (jobs is not None or gpus is not None):
        raise UserError(f"--jobs and --gpus are for this machine; those of a cluster are in its profile ({cluster})")
    if cluster == "local" and canary:
        raise UserError("--canary is for clusters; 'ablate dryrun' rehearses on this machine")
    if cluster == "local" and dry_run:
        raise UserError("--dry-run prints what a cluster would be given; 'ablate plan' shows what would run here")
    if cluster != "local":
        find_profile(cluster)  # planning can take seconds; a wrong name should be reported before
    chosen_gpus = local_gpus(gpus)
    if on_terminal() and not dry_run:
        print(f"planning {name}; large files are read once for their digests, which are then cached", flush=True)
    sweep_plan, store = planned(name, experiment, runs, seeds, settings)
    if dry_run:
        _print_scripts(sweep_plan, store, cluster, canary)
        return
    if cluster != "local" and _submit(sweep_plan, store, cluster, canary, name, experiment):
        return
    raise typer.Exit(launch.run(sweep_plan, store, jobs, gpus=chosen_gpus))


@app.command()
def resume(name: Name, runs: Runs = RUNS, settings: Settings = None) -> None:
    """Continue a sweep where it was last launched. On a cluster exactly the missing stages are submitted."""
    from ablations.commands import launch
    from ablations.grid.settings import options
    from ablations.grid.spec import find_sweep
    from ablations.slurm import finish_job
    from ablations.slurm.resubmit import resubmit
    from ablations.store.artefacts import Store
    from ablations.store.launches import latest_launch
    from qsd.stages import spec as stages

    # Without settings this is the latest launch, with the settings that it had.
    wanted = planned(name, None, runs, None, settings)[0].name if settings else find_sweep(name).stem
    last = latest_launch(Store(runs, stages.key_of), wanted)
    if last is not None:
        if last.arguments.get("settings") and not settings:
            print(f"with {options(last.arguments['settings'])}, as it was launched")
        print(resubmit(runs, last.arguments, last.profile, finish_job.run))
        return
    sweep_plan, store = looked_at(name, None, runs, None, settings)
    raise typer.Exit(launch.run(sweep_plan, store, None))


def _print_scripts(plan: Plan, store: Store, cluster: str, canary: bool) -> None:
    from ablations.slurm import scripts
    from ablations.slurm.profile import find_profile, read_profile

    print("\n".join(scripts.lines(scripts.scripts(plan, store, read_profile(find_profile(cluster)), canary=canary))))


def _submit(plan: Plan, store: Store, cluster: str, canary: bool, name: str, experiment: str | None) -> bool:
    """Submit the plan; False if everything is done, so that only the tables remain to be shown."""
    from ablations.grid.settings import options
    from ablations.slurm import finish_job
    from ablations.slurm.profile import find_profile, read_profile
    from ablations.slurm.submit import submit

    for notice in plan.notices:
        print(f"note: {notice}")
    seeds = None if plan.sweep.looks else list(plan.sweep.seeds)  # with looks, the sweep's file says which are needed
    arguments = {"name": name, "experiment": experiment, "seeds": seeds, "settings": dict(plan.sweep.settings)}
    submission = submit(plan, store, read_profile(find_profile(cluster)), arguments, finish_job.run, canary=canary)
    if submission.launch is None and not submission.queued:
        return False
    again = f"{name} {options(plan.sweep.settings)}".strip()
    print(
        f"{submission}\n'ablate status {again}' shows the progress; 'ablate resume {again}' submits lost stages again"
    )
    return True
