"""The place where a sweep is to run: is all there that it needs?"""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 (typer reads annotations)
from typing import Annotated

import typer

from ablations.commands.common import RUNS, AsJson, Runs, app, planned
from qsd.errors import UserError


@app.command()
def doctor(
    name: Annotated[str | None, typer.Argument(help="A sweep whose data and weights are looked for too.")] = None,
    experiment: Annotated[
        str | None, typer.Option(help="Look at this experiment, or use it instead of the sweep's own.")
    ] = None,
    runs: Runs = RUNS,
    cluster: Annotated[str, typer.Option(help="Where it is to run: local, or a profile of a cluster.")] = "local",
    torch: Annotated[bool, typer.Option("--torch", help="Ask PyTorch for GPUs, too; takes seconds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine, a cluster and what a sweep needs, and say how to mend it; exit status 1 if a check fails."""
    from ablations.checks import doctor as checking
    from ablations.checks.checkup import Subject, checks, subject_of
    from ablations.grid.spec import find_experiment, find_sweep, read_sweep
    from qsd.config.load import load_flat

    subject = None
    if name is not None:
        sweep = read_sweep(find_sweep(name))
        subject = subject_of(sweep, experiment, _disk_needed(name, experiment, runs, cluster))
    elif experiment is not None:
        subject = Subject(load_flat(find_experiment(experiment)), {}, None)
    findings = []
    for finding in checking.examine(checks(runs, subject, None if cluster == "local" else cluster, torch)):
        findings.append(finding)
        if not as_json:
            print(checking.line(finding))
    if as_json:
        print(json.dumps([checking.as_json(finding) for finding in findings], indent=1))
    raise typer.Exit(int(any(finding.level == checking.FAIL for finding in findings)))


def _disk_needed(name: str, experiment: str | None, runs: Path, cluster: str) -> float | None:
    """Bytes that the rest of a sweep will write; None where it cannot be planned, because something is missing."""
    from ablations.cost.estimate import estimate, find_site
    from ablations.store.states import states

    try:
        made, store = planned(name, experiment, runs, None)
        site = find_site(cluster, None, str(made.cells[0].values["device"]))
    except UserError:
        return None
    return float(estimate(made, store, states(store, made.nodes), site)["disk_bytes"])


@app.command()
def prefetch(
    experiment: Annotated[str, typer.Argument(help="An experiment: a name or a path.", show_default=False)],
) -> None:
    """Download what an experiment names by hub names, and verify that the rest is there; for nodes without internet."""
    from ablations.checks.required_files import fetch, supplies
    from ablations.grid.spec import find_experiment
    from qsd.config.load import load_flat

    needed = supplies(load_flat(find_experiment(experiment)))
    missing = []
    for supply in needed:
        try:
            print(f"{supply.what}: {supply.place}: {fetch(supply)}", flush=True)
        except UserError as error:
            print(f"{supply.what}: missing", flush=True)
            missing.append(str(error))
    if missing:
        raise UserError(f"{len(missing)} of {len(needed)} are not there: {'; '.join(missing)}")
