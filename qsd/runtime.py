"""What a stage is given to run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from qsd.config.schema import ExperimentConfig

STATE = ".state"


class Report(Protocol):
    """Called with how far a stage is; cheap to call often."""

    def __call__(self, done: int, total: int, unit: str) -> None:
        """``done`` of ``total``, counted in ``unit`` (for example ``steps``)."""


class Stopping(Protocol):
    """Asked by a stage whether it should end early; cheap to call often."""

    def __call__(self) -> bool:
        """True: keep what was done so far and raise :class:`Interrupted`."""


class Interrupted(BaseException):
    """The stage ends early because it was asked to, and continues from what it kept.

    No ``except Exception`` of a stage or a library may swallow it.
    """


def never() -> bool:
    """A stage that is never asked to stop."""
    return False


def silent(done: int, total: int, unit: str) -> None:
    """A report that goes nowhere."""


@dataclass(frozen=True)
class StageContext:
    """One run of one stage.

    Attributes:
        config: the cell's configuration.
        inputs: artefact folders by input name (the name of the upstream stage).
        output: the folder to fill. It survives an interrupted run, so that the next one continues from it.
        report: progress. It may raise :class:`Interrupted` in a stage that never asks ``stopping``.
        stopping: whether the stage should end early. Asking is optional: a stage that does must end by itself.
        shared: a folder of all stages of this kind with the same inputs; None where there is none. It may be filled or
            emptied by others at any time, so what is in it saves work and is never needed.
        reference_errors: folder of reference errors that all cells of a store share; None: nothing is shared.
        attempt: folder of this attempt, for what may differ from one to the next, such as speed; None: nothing is kept.
    """

    config: ExperimentConfig
    inputs: Mapping[str, Path]
    output: Path
    report: Report = silent
    stopping: Stopping = never
    shared: Path | None = None
    reference_errors: Path | None = None
    attempt: Path | None = None

    @property
    def state(self) -> Path:
        """The folder for resumable state inside ``output``; it is gone from the finished artefact."""
        folder = self.output / STATE
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def clear_state(self) -> None:
        """Remove the resumable state; called by the runner of the stage, once it has succeeded."""
        shutil.rmtree(self.output / STATE, ignore_errors=True)


@dataclass(frozen=True)
class PrecomputeContext:
    """One of several processes that do the common work of stages before they run.

    Attributes:
        configs: of the stages; they are of one kind and have the same inputs.
        inputs: artefact folders by input name.
        shared: the stages' common folder, where the work is left.
        number: of this process, from 0.
        count: of all such processes.
        report: progress; may raise :class:`Interrupted`.
    """

    configs: Sequence[ExperimentConfig]
    inputs: Mapping[str, Path]
    shared: Path
    number: int
    count: int
    report: Report = silent
