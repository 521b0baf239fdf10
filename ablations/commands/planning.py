"""Commands for use before a run: the cells of a sweep, its cost, and why stages are or are not done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ablations.commands.common import RUNS, AsJson, Experiment, Name, Runs, Seeds, Settings, app, planned
from qsd.errors import UserError

if TYPE_CHECKING:
    from ablations.cost.estimate import Site
    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store


@app.command()
def plan(
    name: Name,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    settings: Settings = None,
    cluster: Annotated[str, typer.Option(help="Where the sweep will run: local, or a profile of a cluster.")] = "local",
    parallel: Annotated[
        int | None, typer.Option(min=1, help="Stages at a time; by default as this machine or the profile allows.")
    ] = None,
    detect: Annotated[
        str | None,
        typer.Option(help="Find the cheapest seeds and prompts that detect this difference.", show_default=False),
    ] = None,
    pilot: Annotated[
        str | None,
        typer.Option(help="Plan with the variances of this sweep, at their upper limits.", show_default=False),
    ] = None,
    variances: Annotated[
        str | None,
        typer.Option(help="Plan with these: seeds=4.9e-5,prompts=0.0012,both=0.0042.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a sweep's cells, stages and cost, and what it can detect."""
    from ablations.commands import plan_display
    from ablations.cost.estimate import find_site
    from ablations.grid.stated_variances import parse_variances
    from ablations.planning.missing_inputs import AbsentTable
    from ablations.power import summary as plan_power
    from ablations.store.states import states

    if pilot is not None and variances is not None:
        raise UserError("--pilot and --variances cannot be used together")
    stated = None if variances is None else parse_variances(variances)
    wanted = None if detect is None else plan_power.parse_difference(detect)
    table = AbsentTable()
    try:
        sweep_plan, store = planned(name, experiment, runs, seeds, settings, table)
    except UserError as error:
        raise table.beside(error) from None
    site = find_site(cluster, parallel, str(sweep_plan.cells[0].values["device"]))
    stage_states = states(store, sweep_plan.nodes)
    power = plan_power.power_summary(sweep_plan, store, stated, pilot)
    if wanted is not None:
        several = len(sweep_plan.sweep.seeds) > 1

        def plan_of_seeds() -> Plan:
            return sweep_plan.whole if several else planned(name, experiment, runs, "0,1", settings, table)[0]

        power["detect"] = plan_power.detect(wanted, power, plan_of_seeds, store, site)
    summary = _work_and_cost(sweep_plan, store, stage_states, site) | {"power": power}
    summary["estimate"]["assumed"] += table.remarks()
    if as_json:
        print(json.dumps(summary | {"list": plan_display.cells_as_json(sweep_plan, stage_states)}, indent=1))
    else:
        plan_display.print_plan(sweep_plan, summary)


def _work_and_cost(sweep_plan: Plan, store: Store, stage_states: dict[str, str], site: Site) -> dict[str, Any]:
    """What is left to do, what it costs at a site, and what the report of a tuned sweep will cost after it."""
    from ablations.cost.estimate import estimate
    from ablations.cost.report_price import report_price
    from ablations.planning import plan as planning
    from ablations.running import precompute
    from ablations.store import states
    from ablations.store.divergence import with_followers
    from qsd.stages import spec as stages

    diverged = {key for key in sweep_plan.nodes if stage_states[key] == states.DIVERGED}
    settled = with_followers(sweep_plan.nodes, diverged) | {
        key for key in sweep_plan.nodes if stage_states[key] == states.DONE
    }
    remaining = {key: node for key, node in sweep_plan.nodes.items() if key not in settled}
    return planning.summary(sweep_plan, stage_states) | {
        "estimate": estimate(sweep_plan, store, stage_states, site),
        "ahead": precompute.summary(precompute.groups(remaining, stages, precompute.MOST)),
        "after_tuning": report_price(sweep_plan, store, site),
    }


@app.command()
def cells(
    name: Name,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    settings: Settings = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated, one line per cell and seed.")] = False,
    as_json: AsJson = False,
) -> None:
    """List every cell of a sweep with its role, seed, id and settings."""
    from ablations.planning import cells as listing

    if as_csv and as_json:
        raise UserError("--csv and --json cannot be used together")
    sweep_plan, _ = planned(name, experiment, runs, seeds, settings)
    if as_csv:
        print(listing.as_csv(sweep_plan), end="")
    elif as_json:
        print(json.dumps(listing.listed(sweep_plan), indent=1))
    else:
        for line in listing.as_table(sweep_plan):
            print(line)
        for notice in sweep_plan.notices:
            print(f"note: {notice}")


@app.command()
def explain(
    name: Name,
    cell: Annotated[str | None, typer.Argument(help="A cell by name or id; the baseline if not given.")] = None,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    settings: Settings = None,
) -> None:
    """Explain why each stage of a cell is or is not done. Field by field."""
    from ablations.grid.expand import TRIAL
    from ablations.planning import explain as explaining
    from ablations.planning.cells import find_cell
    from ablations.planning.look_lines import seed_line
    from ablations.planning.tuning_lines import cell_line
    from ablations.store import states

    sweep_plan, store = planned(name, experiment, runs, seeds, settings)
    chosen, whole = find_cell(sweep_plan, cell), sweep_plan.whole
    if sweep_plan.looks is not None and chosen.role != TRIAL:
        print(f"seed {chosen.seed}: {seed_line(sweep_plan.looks, chosen)}")
    if line := cell_line(sweep_plan, chosen):
        print(line)
    for line in explaining.explain(whole, chosen, store, states.states(store, whole.nodes)):
        print(line)


@app.command()
def diff(
    name: Name,
    left: Annotated[str, typer.Argument(help="A cell by name, by 'NAME seed N' or by id.", show_default=False)],
    right: Annotated[str, typer.Argument(help="Another cell.", show_default=False)],
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show how two cells differ. Compares configuration, stages, and the code and machines that ran them."""
    from ablations.planning import diff as comparing
    from ablations.planning.cells import find_cell

    sweep_plan, store = planned(name, experiment, runs, seeds, settings)
    differences = comparing.diff(find_cell(sweep_plan, left), find_cell(sweep_plan, right), store)
    if as_json:
        print(json.dumps(differences, indent=1))
    else:
        comparing.print_diff(differences)
