"""What a stage is given to run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from qsd.config.schema import ExperimentConfig

STATE = ".state"


class Report(Protocol):
    """Told how far a stage is; cheap to call often."""

    def __call__(self, done: int, total: int, unit: str) -> None:
        """``done`` of ``total``, counted in ``unit`` (for example ``steps``)."""


def silent(done: int, total: int, unit: str) -> None:
    """A report that nobody reads."""


@dataclass(frozen=True)
class StageContext:
    """One run of one stage.

    Attributes:
        config: the cell's configuration.
        inputs: artefact folders by input name (the name of the upstream stage).
        output: the folder to fill. It survives an interrupted run, so that the next one continues from it.
        report: progress.
    """

    config: ExperimentConfig
    inputs: Mapping[str, Path]
    output: Path
    report: Report = silent

    @property
    def state(self) -> Path:
        """The folder for resumable state inside ``output``; it is gone from the finished artefact."""
        folder = self.output / STATE
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def clear_state(self) -> None:
        """Remove the resumable state; called by whoever ran the stage, once it has succeeded."""
        shutil.rmtree(self.output / STATE, ignore_errors=True)
