"""Published sets of evaluation prompts by name: ``evaluation.prompts: partiprompts``.

A name stands for ``data/prompts/<name>.csv`` in the project's folder, which ``ablate prefetch`` makes from the public
home of the set, at a fixed revision (``fetch.py``). From then on it is a file like any other: its content enters keys,
and nothing is fetched while a sweep runs. ``layouts.py`` reads the published layouts, ``sets.py`` lists the sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FOLDER = Path("data") / "prompts"
FIELDS = ("evaluation.prompts", "method.prompts")
"""Fields of an experiment that take the name of a set."""


@dataclass(frozen=True)
class SetPrompt:
    """One prompt of a set.

    Attributes:
        prompt_id: decides the initial noise of its images; its place in the set, from 00000, and for a set by styles
            the style and the place.
        caption: the text.
        split: as in a table of prompts; the style of a set by styles.
        category: as the set calls it, or empty; kept in the file, read by nothing yet.
    """

    prompt_id: str
    caption: str
    split: str
    category: str = ""


@dataclass(frozen=True)
class SetFile:
    """One published file: its path at the home, and the SHA-256 of its bytes, or None if no public page states it."""

    path: str
    sha256: str | None = None


@dataclass(frozen=True)
class PromptSet:
    """A published set of prompts.

    Attributes:
        name: how an experiment calls it.
        hub: whether its home is a data set of the Hugging Face hub; otherwise it is a repository on GitHub.
        repo: ``owner/name`` of the home.
        revision: 40 hex digits of the commit.
        files: what is fetched, in order.
        licence: as its home states it.
        about: where the set comes from, in a line.
        count: prompts that it has.
        read: the fetched files, in order -> its prompts.
    """

    name: str
    hub: bool
    repo: str
    revision: str
    files: tuple[SetFile, ...]
    licence: str
    about: str
    count: int
    read: Callable[[Sequence[Path]], Iterator[SetPrompt]]

    @property
    def home(self) -> str:
        """``owner/name@revision``, for people."""
        return f"{self.repo}@{self.revision[:12]} ({'Hugging Face data set' if self.hub else 'GitHub'})"


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
