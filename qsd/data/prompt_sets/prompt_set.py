"""What a published set of prompts is: its home, its files, and the prompts in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

ONLY_SPLIT = "evaluation"
"""The split of the prompts of a file that has no splits."""


@dataclass(frozen=True)
class SetPrompt:
    """One prompt of a set.

    Attributes:
        prompt_id: decides the initial noise of its images; its place in the set, from 00000, and for a set by styles
            the style and the place.
        caption: the text.
        split: as in a table of prompts; the style of a set by styles.
        category: as the set calls it, or empty; tables have differences by category.
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
