"""Members that a user writes beside the installed package: ``members/losses/mine.py`` in the current folder.

A file there is a member as one of the package is: it has the attribute that its registry asks for, its name can stand
in an experiment or a sweep, and the digest of its source takes part in keys (``qsd.source``).
"""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path("members")
KINDS = {
    "losses": "qsd.losses",
    "metrics": "qsd.quality.metrics",
    "normalizations": "qsd.quality.normalizations",
    "strategies": "qsd.selection.strategies",
    "scorers": "qsd.rewards.scorers",
    "readers": "qsd.data.readers",
}
"""Folder below ``members`` -> the package whose members it adds to."""


def folder_of(package: str) -> Path | None:
    """Where own members of a package's registry are looked for; None for a registry that takes none."""
    return next((FOLDER / kind for kind, each in KINDS.items() if each == package), None)


def add_to(package: str) -> None:
    """Let modules of ``package`` be found in its folder of own members, if there is one in the current folder.

    Called while the package is imported, before any of its members is.
    """
    folder = folder_of(package)
    module = sys.modules.get(package)
    if folder is not None and module is not None and folder.is_dir():
        place = str(folder.resolve())
        if place not in module.__path__:
            module.__path__.append(place)


def own_file(module: str) -> Path | None:
    """The file of a module that is an own member, or a module or package beside one; None for any other."""
    package = next((each for each in KINDS.values() if module.startswith(f"{each}.")), None)
    if package is None or package not in sys.modules:
        return None
    parts = module.removeprefix(f"{package}.").split(".")
    for folder in sys.modules[package].__path__[1:]:
        place = Path(folder, *parts)
        for path in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if path.is_file():
                return path
    return None
