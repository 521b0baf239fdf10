"""The application of ``ablate``, options that its commands share, and the step from a sweep's name to its plan."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qsd import completion
from qsd.config.fields import MOST_SEED
from qsd.errors import UserError
from qsd.printable import printable
from qsd.version import Version  # noqa: TC001 (typer reads annotations)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ablations.grid.keys import StageTable
    from ablations.grid.spec import Sweep
    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store

app = typer.Typer(
    help="Ablation grids: a question in YAML becomes cells, shared stages, and a table with intervals.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _options(version: Version = False) -> None:
    """Options that stand before a command."""


Name = Annotated[
    str,
    typer.Argument(
        help="A sweep: a name (sweeps/NAME.yaml) or a path.", show_default=False, autocompletion=completion.sweeps
    ),
]
Experiment = Annotated[
    str | None,
    typer.Option(
        "--experiment",
        "-e",
        help="Use this experiment, by name or path, instead of the sweep's own.",
        show_default=False,
        autocompletion=completion.experiments,
    ),
]
Runs = Annotated[Path, typer.Option(envvar="ABLATE_RUNS", help="Folder of the results.")]
Seeds = Annotated[str | None, typer.Option(help="Use these seeds, for example 0,1,2.", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        help="dotted.name=value replaces a field in all cells; may be repeated.",
        autocompletion=completion.fields,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1, max=1024, help="Stages at a time (default 2, or 1 on one core); with --gpus, stages per GPU (default 1)."
    ),
]
Gpus = Annotated[
    str | None, typer.Option(help="Distribute the stages over these GPUs of this machine, for example 0,1.")
]
RUNS = Path("runs")
_SEED = re.compile(r"0|[1-9][0-9]*")


def planned(
    name: str,
    experiment: str | None,
    runs: Path,
    seeds: str | None,
    settings: Sequence[str] | None = None,
    table: StageTable | None = None,
) -> tuple[Plan, Store]:
    """The plan of what is needed of a sweep by now, and its store; ``table`` replaces the stages of the project.

    ``seeds`` replace the sweep's, also where it has looks. ``settings`` are ``dotted.name=value`` of all cells
    (``ablations.grid.settings``).

    Raises:
        UserError: any error in the sweep, or a folder for results that no file can name.
    """
    from ablations.planning.needed import needed
    from ablations.planning.plan import make_plan
    from ablations.store.artefacts import Store
    from qsd.stages import spec as stages

    _check_name(runs.absolute())
    sweep = read_with_settings(name, settings)
    if seeds is not None:
        sweep = replace(sweep, seeds=_seeds(seeds), looks=None)
    store = Store(runs, stages.key_of)
    return needed(make_plan(sweep, table or stages, experiment), store), store


def _check_name(folder: Path) -> None:
    """Refuse a folder whose name has bytes that are not UTF-8: it is written into files, which are."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{printable(str(folder))}: the name of this folder is not UTF-8; rename it, or choose another one"
        ) from None


def looked_at(
    name: str, experiment: str | None, runs: Path, seeds: str | None, settings: Sequence[str] | None
) -> tuple[Plan, Store]:
    """As :func:`planned`, for commands that show results; a note names other settings that the sweep was run with."""
    from ablations.store.variants import variants_note

    sweep_plan, store = planned(name, experiment, runs, seeds, settings)
    note = variants_note(store, sweep_plan)
    if note:
        print(note, file=sys.stderr, flush=True)
    return sweep_plan, store


def read_with_settings(name: str, settings: Sequence[str] | None) -> Sweep:
    """A sweep by name or path, with ``dotted.name=value`` over its experiment.

    Raises:
        UserError: any error in the sweep or in a setting.
    """
    from ablations.grid.settings import with_settings
    from ablations.grid.spec import find_sweep, read_sweep
    from qsd.config.assignments import assignments

    given = assignments(settings or [])  # before the sweep: a mistake on the command line is found at once
    return with_settings(read_sweep(find_sweep(name)), given)


def _seeds(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(_SEED.fullmatch(part) for part in parts) or len(set(parts)) < len(parts):
        raise UserError(f"--seeds must be different whole numbers such as 0,1,2, without leading zeros, not {text!r}")
    if any(len(part) > len(str(MOST_SEED)) or int(part) > MOST_SEED for part in parts):
        raise UserError(f"--seeds: a seed must be a whole number from 0 to {MOST_SEED}, not {max(parts, key=len)[:40]}")
    return tuple(int(part) for part in parts)
