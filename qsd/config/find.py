"""Files that are given by name or by path, such as experiments and sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qsd.config.near_paths import suggest_path
from qsd.errors import UserError
from qsd.registry import suggest
from qsd.regular_files import check_regular

if TYPE_CHECKING:
    from collections.abc import Callable

EXPERIMENTS = Path("experiments")
_SUFFIXES = (".yaml", ".yml")


def is_name(name: str) -> bool:
    """True for ``emoji``; False for a path such as ``mine/emoji.yaml`` or ``emoji.yaml``."""
    return not name.endswith(_SUFFIXES) and len(Path(name).parts) == 1


def find_file(name: str, folder: Path, kind: str, fits: Callable[[Path], bool] | None = None) -> Path:
    """The file ``folder/<name>.yaml``, or the one at a path.

    Args:
        name: a name or a path.
        folder: where named files are.
        kind: what it is called in messages.
        fits: False for files of the folder that the message does not offer.

    Raises:
        UserError: there is no such file.
    """
    path = folder / f"{name}.yaml" if is_name(name) else Path(name)
    check_regular(path)
    if path.is_file():
        return path
    known = sorted(file.stem for file in folder.glob("*.yaml") if fits is None or fits(file))
    near = suggest(name, known) or suggest_path(path)
    if not folder.is_dir():
        here = f"{Path.cwd()} has no folder {folder}/"
        remedy = f"{here}: run this in the project's folder, or in one made by 'ablate init'"
    else:
        remedy = f"known: {', '.join(known) or 'none'}"
    raise UserError(f"unknown {kind} {name!r}: there is no {path}{near}; {remedy}")


def find_experiment(name: str) -> Path:
    """The file of an experiment given by name (``experiments/<name>.yaml``) or by path; raises like find_file."""
    from qsd.config.recipe import is_recipe

    return find_file(name, EXPERIMENTS, "experiment", lambda file: not is_recipe(file))
