"""Published sets of evaluation prompts by name: ``evaluation.prompts: partiprompts``.

A name stands for ``data/prompts/<name>.csv`` in the project's folder, which ``ablate prefetch`` makes from the public
home of the set, at a fixed revision (``fetch.py``). From then on it is a file like any other: its content enters keys,
and nothing is fetched while a sweep runs. ``layouts.py`` reads the published layouts, ``sets.py`` lists the sets.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qsd.data.prompt_sets.prompt_set import PromptSet

FOLDER = Path("data") / "prompts"
FIELDS = ("evaluation.prompts", "method.prompts")
"""Fields of an experiment that take the name of a set."""


@cache
def prompt_sets() -> dict[str, PromptSet]:
    """All sets by name."""
    from qsd.data.prompt_sets.sets import SETS

    return {one.name: one for one in SETS}


def place_of(value: str) -> str:
    """The file that a value of one of ``FIELDS`` stands for: a name stands for its set, unless a file has that name."""
    if value in prompt_sets() and not Path(value).exists():
        return str(FOLDER / f"{value}.csv")
    return value


def set_at(place: str | Path) -> PromptSet | None:
    """The set whose file a path is, whether it is there or not; None for any other path."""
    path = Path(place)
    return prompt_sets().get(path.stem) if path.parent == FOLDER and path.suffix == ".csv" else None


def missing_hint(place: str | Path) -> str:
    """What to do about a missing file of a set, to add to a message; empty for any other path."""
    one = set_at(place)
    if one is None:
        return ""
    return (
        f"; it is the set '{one.name}' of published prompts: run 'ablate prefetch EXPERIMENT' with a network connection"
    )
