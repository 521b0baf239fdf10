"""Commands that check and prepare the machine or cluster where a sweep will run."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path  # noqa: TC003 (typer reads annotations)
from typing import TYPE_CHECKING, Annotated

import typer

from ablations.commands.common import RUNS, AsJson, Experiment, Runs, Seeds, Settings, app, planned, read_with_settings
from qsd.errors import UserError

if TYPE_CHECKING:
    from ablations.checks.checkup import PlanningOutcome


@app.command()
def doctor(
    name: Annotated[str | None, typer.Argument(help="Also check the data and weights of this sweep.")] = None,
    experiment: Annotated[
        str | None, typer.Option(help="Check this experiment, or use it instead of the sweep's own.")
    ] = None,
    runs: Runs = RUNS,
    settings: Settings = None,
    cluster: Annotated[str, typer.Option(help="Where the sweep will run: local, or a profile of a cluster.")] = "local",
    torch: Annotated[bool, typer.Option("--torch", help="Also ask PyTorch for GPUs; takes seconds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine, a cluster and what a sweep needs. Says how to fix it; exit status 1 if a check fails."""
    from ablations.checks import doctor as checking
    from ablations.checks.checkup import checks, experiment_subject, subject_of
    from qsd.config.assignments import assignments
    from qsd.config.find import find_experiment
    from qsd.config.load import load_flat, override

    subject = None
    if name is not None:
        sweep = read_with_settings(name, settings)
        subject = subject_of(sweep, experiment, partial(_try_plan, name, experiment, runs, settings, cluster))
    elif experiment is not None:
        subject = experiment_subject(override(load_flat(find_experiment(experiment)), assignments(settings or [])))
    findings = []
    profile = None if cluster == "local" else cluster
    for finding in checking.examine(checks(runs, subject, profile, torch, _say)):
        findings.append(finding)
        if not as_json:
            print(checking.line(finding), flush=True)
    if as_json:
        print(json.dumps([checking.as_json(finding) for finding in findings], indent=1))
    raise typer.Exit(int(any(finding.level == checking.FAIL for finding in findings)))


def _say(text: str) -> None:
    """Show what is about to be done, beside the findings."""
    print(f"...   {text}", file=sys.stderr, flush=True)


def _try_plan(
    name: str, experiment: str | None, runs: Path, settings: list[str] | None, cluster: str
) -> PlanningOutcome:
    """What the rest of a sweep will write, and why it cannot be planned, if so."""
    from ablations.checks.checkup import PlanningOutcome
    from ablations.cost.estimate import estimate, find_site
    from ablations.cost.report_price import report_price
    from ablations.store.states import states

    try:
        sweep_plan, store = planned(name, experiment, runs, None, settings)
    except UserError as error:
        return PlanningOutcome(mistake=str(error))
    try:
        site = find_site(cluster, None, str(sweep_plan.cells[0].values["device"]))
    except UserError:  # a mistake in the profile, which its own check reports
        return PlanningOutcome()
    left = estimate(sweep_plan, store, states(store, sweep_plan.nodes), site)["disk_bytes"]
    after = report_price(sweep_plan, store, site)
    return PlanningOutcome(float(left + (after["disk_bytes"] if after else 0)))


@app.command()
def verify(
    name: Annotated[
        str | None, typer.Argument(help="Only the stages of this sweep; by default all of the store.")
    ] = None,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    settings: Settings = None,
) -> None:
    """Read all files of finished stages, and name the damaged ones. Exit status 1 if there are any."""
    from ablations.checks.store_content import check_content, content_lines
    from ablations.store.artefacts import Store
    from qsd.progress import ShownProgress
    from qsd.stages import spec as stages

    if not (runs / "artefacts").is_dir():
        raise UserError(f"{runs}: no results here; give the folder with --runs")
    keys = None if name is None else planned(name, experiment, runs, seeds, settings)[0].nodes.keys()
    with ShownProgress("verify") as report:
        content = check_content(Store(runs, stages.key_of), report, keys)
    print("\n".join(content_lines(content, f"ablate run {name or 'NAME'}")))
    raise typer.Exit(int(bool(content.damaged)))


@app.command()
def prefetch(
    experiment: Annotated[str, typer.Argument(help="An experiment: a name or a path.", show_default=False)],
) -> None:
    """Download the models and data of an experiment. What has no hub name is verified. For nodes without internet."""
    from ablations.checks.required_files import fetch, required_files
    from qsd.config.find import find_experiment
    from qsd.config.load import load_flat

    needed = required_files(load_flat(find_experiment(experiment)))
    missing = []
    for required in needed:
        try:
            print(f"{required.what}: {required.place}: {fetch(required)}", flush=True)
        except UserError as error:
            print(f"{required.what}: missing", flush=True)
            missing.append(str(error))
    if missing:
        raise UserError(f"{len(missing)} of {len(needed)} required files or folders are missing: {'; '.join(missing)}")
