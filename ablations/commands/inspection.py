"""How far a sweep is, and its results."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ablations.commands.common import RUNS, AsJson, Experiment, Name, Runs, Seeds, app, planned


@app.command()
def status(
    name: Name,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    once: Annotated[bool, typer.Option("--once", help="One look, also on a terminal.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how far a sweep is, on a terminal live: each cell's stage, progress, time left and place; and failures."""
    from ablations.inspection import status as looking
    from ablations.inspection import watch
    from ablations.running.display import on_terminal

    made, store = planned(name, experiment, runs, seeds)
    live = on_terminal() and not once and not as_json
    found = watch.watch(made, store) if live else looking.status(made, store)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(looking.status_lines(found)))


@app.command()
def failures(
    name: Name, experiment: Experiment = None, runs: Runs = RUNS, seeds: Seeds = None, as_json: AsJson = False
) -> None:
    """Group what failed or was lost by cause and place in the code, with the log of one example each."""
    from ablations.recovery import failures as triage

    found = triage.failures(*planned(name, experiment, runs, seeds))
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(triage.failure_lines(found)))


@app.command()
def logs(
    name: Name,
    cell: Annotated[str, typer.Argument(help="A cell by name, 'NAME seed N', or id.", show_default=False)],
    stage: Annotated[str | None, typer.Option(help="Its stage; by default the last one tried.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on while the stage runs.")] = False,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
) -> None:
    """Show the log of a stage's latest attempt."""
    from ablations.inspection import logs as reading
    from ablations.planning.cells import find_cell
    from ablations.store import attempts

    made, store = planned(name, experiment, runs, seeds)
    node = reading.stage_to_read(find_cell(made, cell), store, stage)
    folder = attempts.latest(store, node.stage, node.key)
    print(f"{made.label(node)}: {folder}", file=sys.stderr)
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            for text in reading.follow(store, node):
                print(text, end="", flush=True)
    elif folder is not None:
        print((folder / attempts.LOG).read_text(errors="replace"), end="")


@app.command()
def table(name: Name, experiment: Experiment = None, runs: Runs = RUNS, seeds: Seeds = None) -> None:
    """Rebuild and show the tables of what is evaluated so far, at any time; the rest is listed with its state."""
    from ablations.running import finalize

    made, store = planned(name, experiment, runs, seeds)
    folder = finalize.write_cells(made, store, finalize.commit_of(Path.cwd()), least=1)
    print(finalize.table_text(store, folder))
