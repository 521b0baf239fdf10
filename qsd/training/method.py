"""What the engine knows of a method: everything that differs between one way to train and another.

A method brings batches, a loss, metric columns and the words about them. The engine brings steps, optimiser, moving
averages, checkpoints, logs and stopping. A new method is a folder beside ``offpolicy`` with a subclass of
:class:`Method`, or of :class:`AdapterMethod` when stage train is to run it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from qsd.adapters.facts import TrainingFacts
from qsd.config.schema import ExperimentConfig
from qsd.training.ema import ParameterEma
from qsd.training.metrics import GRAD_NORM
from qsd.training.processes import Processes
from qsd.training.throughput import Throughput


class Method(ABC):
    """One training, without its loop. Subclasses set the attributes; only the abstract methods must be written.

    Attributes:
        unit: what a step is counted in, in the plural, such as ``pairs``.
        columns: names of the values that a step gives, in the order of ``metrics.jsonl``.
        finite: the columns, or ``grad_norm``, that end the training as diverged when they are not finite.
        lower: the settings to lower, for the message about that.
        parameters: the trained weights by name, fp32.
        averages: moving averages of them; the engine updates and keeps them, the method may read them.
        processes: that share each step.
        validates: whether ``validate`` ever gives a row for ``validation.jsonl``.
    """

    unit: ClassVar[str]
    columns: tuple[str, ...]
    finite: ClassVar[tuple[str, ...]] = ("loss", GRAD_NORM)
    lower: ClassVar[str] = "training.learning_rate"
    parameters: Mapping[str, nn.Parameter]
    averages: ParameterEma
    processes: Processes
    validates: bool = False

    @property
    def device(self) -> torch.device:
        """Where the trained weights are."""
        return next(iter(self.parameters.values())).device

    @property
    def forwarded(self) -> int:
        """Passes of a unit without gradients that this process has made, for its throughput."""
        return 0

    @abstractmethod
    def step(self, step: int) -> Tensor:
        """Add the gradients of this process's share of step 0, 1, … to the parameters; the engine sums them.

        It must be a function of the step, the weights and ``tensors`` alone, or a resumed training would differ.

        Returns:
            The values of ``columns`` over the whole step, [C], the same in every process.
        """

    def has_gradients(self, values: Tensor) -> bool:
        """Whether a step has gradients in some process; without any, the weights and the optimiser stay as they are.

        Args:
            values: what ``step`` gave, the same in every process, so that all of them decide the same.
        """
        return True

    @abstractmethod
    def units(self, step: int) -> int:
        """How many units this process trains on in a step."""

    @abstractmethod
    def describe(self, row: Mapping[str, Any]) -> str:
        """One line for people about means of ``columns`` and ``grad_norm`` over some steps."""

    def prepare(self, step: int) -> Throughput:
        """Called once, before the first step of a run: compile, count the operations of a unit.

        Args:
            step: the first step, or the last of a training that is complete.
        """
        return Throughput(self.unit)

    def session(self) -> AbstractContextManager[object]:
        """Entered around all steps, for what runs beside them, such as a thread that makes batches."""
        return nullcontext()

    def after_update(self) -> None:
        """Called after each update of the weights, for example to clamp one."""
        return

    def further_columns(self, done: int) -> Mapping[str, float]:
        """Columns that only the row of this step has, measured after its update, when ``done`` steps are made."""
        return {}

    def validate(self, done: int) -> Mapping[str, float] | None:
        """The row of ``validation.jsonl`` after ``done`` steps; None when none is due.

        Called after each step by every process. It is about the weights that would be saved (``averages.result``).
        """
        return None

    def describe_validation(self, row: Mapping[str, Any]) -> str:
        """One line for people about a row of ``validation.jsonl``."""
        return ", ".join(f"{name} {value}" for name, value in row.items())

    def tensors(self) -> Mapping[str, Tensor]:
        """State of the method's own for a checkpoint, beside weights, optimiser and averages; most have none."""
        return {}

    def load_tensors(self, stored: Mapping[str, Tensor]) -> None:
        """Continue from what ``tensors`` gave."""
        return

    def opening_lines(self) -> Iterable[str]:
        """What to print before the first step."""
        return ()

    def closing_lines(self, mean: Mapping[str, Any]) -> Iterable[str]:
        """What to print after the last step; ``mean`` is over the last rows, as for ``describe``."""
        return ()


class AdapterMethod(Method):
    """A method that stage train can run: it trains an adapter and can say what it was trained on.

    It is made with (configuration, inputs by stage, denoiser, processes, folder of shared reference errors or None).
    ``qsd.training.methods`` lists them.

    Attributes:
        config: of the cell, with the number of steps that its budget gives.
    """

    config: ExperimentConfig

    def keep_files(self, output: Path) -> None:
        """Files that the method writes during the training go to ``output``; most write none."""
        return

    @abstractmethod
    def summary(self, output: Path) -> dict[str, Any]:
        """The content of ``summary.json``.

        Called once by the main process after the last step, with the last step's weights; it may write further files
        into ``output``.
        """

    @abstractmethod
    def facts(self, settings: Mapping[str, Any], summary: Mapping[str, Any]) -> TrainingFacts:
        """What the adapter's file and card tell of the training.

        Args:
            settings: of the cell, by dotted name, where they are not the defaults.
            summary: what ``summary`` gave.
        """
