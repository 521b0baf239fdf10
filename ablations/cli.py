"""``ablate``: plan, run, watch and explain sweeps. Heavy libraries are imported only by what runs."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qsd.errors import UserError

if TYPE_CHECKING:
    from ablations.plan import Plan
    from ablations.store import Store

app = typer.Typer(
    help="Ablation grids: a question in YAML becomes cells, shared stages, and a table with intervals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(help="A sweep: a name (sweeps/NAME.yaml) or a path.", show_default=False)]
Experiment = Annotated[
    str | None, typer.Option(help="Use this experiment instead of the sweep's own.", show_default=False)
]
Runs = Annotated[Path, typer.Option(envvar="ABLATE_RUNS", help="Where results are kept.")]
Seeds = Annotated[str | None, typer.Option(help="Use these seeds, for example 0,1,2.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
RUNS = Path("runs")


@app.command()
def plan(
    name: Name, experiment: Experiment = None, runs: Runs = RUNS, seeds: Seeds = None, as_json: AsJson = False
) -> None:
    """Show the cells of a sweep, its unique stages, and what is done already."""
    from ablations import board, states
    from ablations import plan as planning

    made, store = _plan(name, experiment, runs, seeds)
    found = states.states(store, made.nodes)
    if as_json:
        print(json.dumps(planning.summary(made, found) | {"list": board.cells_as_json(made, found)}, indent=1))
    else:
        board.print_plan(made, planning.summary(made, found))


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
    made, store = _plan(name, experiment, runs, seeds)
    raise typer.Exit(launch.run(made, store, jobs))


@app.command()
def status(
    name: Name, experiment: Experiment = None, runs: Runs = RUNS, seeds: Seeds = None, as_json: AsJson = False
) -> None:
    """Show how far a sweep is: each cell's stage, progress, and failures with their logs."""
    from ablations import status as looking

    made, store = _plan(name, experiment, runs, seeds)
    found = looking.status(made, store)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        looking.print_status(found)


@app.command()
def table(name: Name, experiment: Experiment = None, runs: Runs = RUNS, seeds: Seeds = None) -> None:
    """Rebuild and show the tables of a sweep."""
    from ablations import finish, states

    made, store = _plan(name, experiment, runs, seeds)
    found = states.states(store, made.nodes)
    missing = sum(state != states.DONE for state in found.values())
    if missing:
        raise UserError(f"{missing} of {len(found)} stages are not done; run 'ablate run {name}' first")
    folder = finish.write_cells(made, store, Path.cwd())
    finish.write_tables(store, folder)
    print(finish.render(folder))


@app.command()
def explain(
    name: Name,
    cell: Annotated[str | None, typer.Argument(help="A cell by name or id; the baseline if not given.")] = None,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
) -> None:
    """Say, field by field, why each stage of a cell is or is not done."""
    from ablations import explain as explaining
    from ablations import states

    made, store = _plan(name, experiment, runs, seeds)
    found = states.states(store, made.nodes)
    for line in explaining.explain(made, explaining.find_cell(made, cell), store, found):
        print(line)


def _plan(name: str, experiment: str | None, runs: Path, seeds: str | None) -> tuple[Plan, Store]:
    from ablations.plan import make_plan
    from ablations.spec import find_sweep, read_sweep
    from ablations.store import Store
    from qsd.stages import spec as stages

    sweep = read_sweep(find_sweep(name))
    if seeds is not None:
        sweep = replace(sweep, seeds=_seeds(seeds))
    return make_plan(sweep, stages, experiment), Store(runs, stages.key_of)


def _seeds(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise UserError(f"--seeds must be different whole numbers such as 0,1,2, not {text!r}")
    return tuple(int(part) for part in parts)


def main() -> None:
    """The console command: a user's mistake is one line on standard error and exit status 2."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
