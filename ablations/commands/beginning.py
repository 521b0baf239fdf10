"""Commands that write the files that a user begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ablations.commands.common import app
from qsd.errors import UserError

new = typer.Typer(help="Write a first file: an experiment.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(new, name="new")


@new.callback()
def _group() -> None:
    """Write a first file: an experiment."""


@new.command()
def experiment(
    name: Annotated[str, typer.Argument(help="Its name (experiments/NAME.yaml), or a path.", show_default=False)],
    data: Annotated[str, typer.Option(help="File or folder with preference pairs.", show_default=False)],
    model: Annotated[str, typer.Option(help="Diffusers folder, or hub name with @revision.", show_default=False)],
    weights: Annotated[str | None, typer.Option(help="Folder with one folder per reward model.")] = None,
    prompts: Annotated[str | None, typer.Option(help="Evaluation prompts, by whose images cells are compared.")] = None,
    reader: Annotated[str | None, typer.Option(help="Layout of the data; recognised if not given.")] = None,
) -> None:
    """Write an experiment with every field and comments, filled in from the data, the model and the reward models."""
    from ablations.scaffold import experiment as writing
    from ablations.scaffold.findings import ABSENT, find
    from qsd.config.find import EXPERIMENTS, is_name
    from qsd.config.load import load_flat
    from qsd.files import write_bytes

    path = EXPERIMENTS / f"{name}.yaml" if is_name(name) else Path(name)
    if path.exists():
        raise UserError(f"{path}: exists; choose another name, or delete it first")
    findings = find(data, model, weights, prompts, reader)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, writing.text(path.stem, findings).encode())
    print(f"wrote {path}")
    for field, remark in findings.remarks.items():
        if remark.startswith(ABSENT):
            print(f"  note: {field}: {findings.values[field]}: {remark}")
    for field, what in findings.missing.items():
        print(f"  missing: {field}: {what}")
    if not findings.missing:
        load_flat(path)  # a file that was written here must be valid
    print(f"'ablate doctor --experiment {name}' checks it, once nothing is missing")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder; created if it does not exist.")],
) -> None:
    """Make a folder for sweeps, experiments and code of your own.

    The code is losses, metrics, strategies and reward models.
    """
    from ablations.scaffold.workspace import make_workspace

    for path in make_workspace(folder):
        print(f"made {path}")
    print(f"run all commands in {folder}; its README.md has the first ones")
