"""Commands that show a sweep: its status, failures, logs and results."""

from __future__ import annotations

import contextlib
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ablations.commands.common import RUNS, AsJson, Experiment, Name, Runs, Seeds, Settings, app, looked_at


@app.command()
def status(
    name: Name,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    settings: Settings = None,
    once: Annotated[bool, typer.Option("--once", help="Print once and exit, also on a terminal.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the progress of a sweep, live on a terminal. Each cell with its stage, time left and host; and failures."""
    from ablations.inspection import status as inspection
    from ablations.inspection import watch
    from ablations.running.display import on_terminal

    sweep_plan, store = looked_at(name, experiment, runs, seeds, settings)
    live = on_terminal() and not once and not as_json
    report = watch.watch(sweep_plan, store) if live else inspection.status(sweep_plan, store)
    if as_json:
        print(json.dumps(report, indent=1))
    else:
        print("\n".join(inspection.status_lines(report)))


@app.command()
def failures(
    name: Name,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Group failed and lost stages by their cause. Also by the place in the code, each with the log of one example."""
    from ablations.recovery import failures as grouping

    groups = grouping.failures(*looked_at(name, experiment, runs, seeds, settings))
    if as_json:
        print(json.dumps(groups, indent=1))
    else:
        print("\n".join(grouping.failure_lines(groups)))


@app.command()
def logs(
    name: Name,
    cell: Annotated[str, typer.Argument(help="A cell by name, 'NAME seed N', or id.", show_default=False)],
    stage: Annotated[str | None, typer.Option(help="The stage; by default the last one that was tried.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing while the stage runs.")] = False,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    settings: Settings = None,
) -> None:
    """Show the log of a stage's latest attempt."""
    from ablations.inspection import logs as reading
    from ablations.planning.cells import find_cell
    from ablations.store import attempts

    sweep_plan, store = looked_at(name, experiment, runs, seeds, settings)
    node = reading.stage_to_read(find_cell(sweep_plan, cell), store, stage)
    folder = attempts.latest(store, node.stage, node.key)
    print(f"{sweep_plan.whole.label(node)}: {folder}", file=sys.stderr)
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            for text in reading.follow(store, node):
                print(text, end="", flush=True)
    elif folder is not None and (folder / attempts.LOG).is_file():
        print((folder / attempts.LOG).read_text(encoding="utf-8", errors="replace"), end="")
    elif folder is not None:
        print("this attempt has not begun a log, or was killed before it could", file=sys.stderr)


class TableFormat(StrEnum):
    """What ``ablate table`` prints."""

    TERMINAL = "terminal"
    CSV = "csv"
    MARKDOWN = "md"
    LATEX = "latex"
    HTML = "html"


@app.command()
def table(
    name: Name,
    experiment: Experiment = None,
    runs: Runs = RUNS,
    seeds: Seeds = None,
    settings: Settings = None,
    form: Annotated[TableFormat, typer.Option("--format", help="What to print.")] = TableFormat.TERMINAL,
    verify: Annotated[
        bool, typer.Option("--verify", help="Build the written files again and compare; exit status 1 if they differ.")
    ] = False,
) -> None:
    """Build and show the tables of what is evaluated so far. Other cells are listed with their state."""
    from ablations.running import finalize

    sweep_plan, store = looked_at(name, experiment, runs, seeds, settings)
    if verify:
        _verify(store.root, store.sweep(sweep_plan.name))
        return
    folder = finalize.write_cells(sweep_plan, store, finalize.commit_of(Path.cwd()), least=1)
    print(finalize.table_text(store, folder, form.value), end="\n" if form is TableFormat.TERMINAL else "")


def _verify(runs: Path, folder: Path) -> None:
    from analysis.verify import verify

    files, problems = verify(runs, folder)
    for problem in problems:
        print(problem)
    if problems:
        print(f"{folder}: not verified; 'ablate table' writes the tables of these results and this code")
        raise typer.Exit(1)
    print(f"{folder}: verified; these results and this code give the same {files} files")


@app.command()
def report(
    name: Name, experiment: Experiment = None, runs: Runs = RUNS, seeds: Seeds = None, settings: Settings = None
) -> None:
    """Write the page of what is evaluated so far, and print its path. It is one HTML file that works from disk."""
    from ablations.running import finalize

    sweep_plan, store = looked_at(name, experiment, runs, seeds, settings)
    folder = finalize.write_cells(sweep_plan, store, finalize.commit_of(Path.cwd()), least=1)
    finalize.write_tables(store, folder)
    print(folder / finalize.PAGE)


@app.command()
def show(
    name: Name, experiment: Experiment = None, runs: Runs = RUNS, seeds: Seeds = None, settings: Settings = None
) -> None:
    """Show the question of a sweep and its answer so far. Also what is missing, and where the tables are."""
    from ablations.running import finalize

    sweep_plan, store = looked_at(name, experiment, runs, seeds, settings)
    print(finalize.summary_text(sweep_plan, store, finalize.commit_of(Path.cwd())))
