"""The version of this project, for ``ablate --version`` and ``qsd --version``."""

from __future__ import annotations

from typing import Annotated

import typer

DISTRIBUTION = "qsd-ablations"


def _print(wanted: bool) -> None:
    if wanted:
        from importlib import metadata  # takes a moment, which no other command needs

        try:
            version = metadata.version(DISTRIBUTION)
        except metadata.PackageNotFoundError:  # run from a snapshot or another copy of the code
            version = "not installed"
        print(f"{DISTRIBUTION} {version}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_print, is_eager=True, help="Print the version and exit.")]
"""An option of a whole command."""
