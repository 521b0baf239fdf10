"""Files of published weights on the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True)
class HubFile:
    """One file of a repository of the hub.

    Attributes:
        repo: ``owner/name``.
        file: its path in the repository, and below the reward model's folder.
        revision: branch, tag or commit. What was fetched is known by its content: revisions of reward models are
            digests of their files, whatever the hub calls them.
    """

    repo: str
    file: str
    revision: str = "main"

    def command(self, folder: Path) -> str:
        """The command that fetches it with the hub's own client."""
        return f"hf download {self.repo} {self.file} --revision {self.revision} --local-dir {folder}"


def commands(files: Sequence[HubFile], folder: Path) -> str:
    """One line that fetches all ``files`` into ``folder``."""
    return " && ".join(file.command(folder) for file in files)
