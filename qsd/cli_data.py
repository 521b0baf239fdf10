"""The commands ``qsd data describe`` and ``qsd data validate``, which inspect a data set without a stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qsd.errors import UserError

app = typer.Typer(rich_markup_mode=None)

STAGE = "data"
"""The stage that the same command runs when no other is given."""

DataSet = Annotated[Path, typer.Argument(metavar="PATH", help="File or folder with preference pairs.")]
ReaderName = Annotated[str | None, typer.Option("--reader", help="Layout of the data set; detected if not given.")]
MissingShards = Annotated[
    bool, typer.Option("--accept-missing-shards", help="Read a folder although some of its shards are missing.")
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="ROLE=NAME", help="Column of the caption, winner, loser or annotator; may be repeated."
    ),
]
Threads = Annotated[int, typer.Option(min=1, max=1024, help="Threads that decode images.")]


@app.command()
def describe(
    path: DataSet,
    reader: ReaderName = None,
    threads: Threads = 1,
    accept_missing_shards: MissingShards = False,
    column: Columns = None,
) -> None:
    """Print counts, problems, duplicates, resolutions and captions of a data set."""
    from qsd.data.describe import describe
    from qsd.data.opening import open_path
    from qsd.data.readers import REGISTRY
    from qsd.progress import ShownProgress

    name, source = open_path(path, reader, accept_missing_shards, _columns(column or []))
    with ShownProgress("describe") as report:
        description = describe(source, threads, report)
    print(f"reader            {name}")
    of_layout = REGISTRY.get(name).annotators
    for line in description.lines(of_layout(path) if of_layout else ()):
        print(line)
    if not description.pairs:
        raise UserError(
            f"{path}: no preference pair in it; the counts above say why ('qsd data validate' names the rows)"
        )


@app.command()
def validate(
    path: DataSet,
    reader: ReaderName = None,
    threads: Threads = 1,
    accept_missing_shards: MissingShards = False,
    column: Columns = None,
) -> None:
    """List every problem of a data set; exit status 1 if there is one."""
    from qsd.data.opening import open_path
    from qsd.data.validate import validate
    from qsd.progress import ShownProgress

    name, source = open_path(path, reader, accept_missing_shards, _columns(column or []))
    with ShownProgress("validate") as report:
        validation = validate(source, threads, report)
    for line in validation.lines():
        print(line)
    print(f"{path}: {'valid' if validation.passed else 'not valid'}, read as {name}")
    raise typer.Exit(0 if validation.passed else 1)


def _columns(given: list[str]) -> dict[str, str]:
    """Role -> name of its column.

    Raises:
        UserError: not ROLE=NAME, no such role, or one given twice.
    """
    from qsd.data.readers.table import KNOWN

    columns: dict[str, str] = {}
    for one in given:
        role, equals, name = one.partition("=")
        if not equals or not name or role not in KNOWN:
            raise UserError(f"--column {one!r}: must be ROLE=NAME, with a role of {', '.join(KNOWN)}")
        if role in columns:
            raise UserError(f"--column: the {role} is given twice")
        columns[role] = name
    return columns
