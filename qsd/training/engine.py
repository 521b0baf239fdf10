"""The training loop of every method: fixed steps that can be stopped or killed anywhere and end in the same bytes.

The engine knows nothing of batches, losses or what a column means (``method.py``). A step asks the method for
gradients, sums them over the processes, updates the weights and their moving averages, and logs what the method
measured. A checkpoint holds all that a run needs to continue, the lengths of the logs included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from torch import Tensor

from qsd.config.schema import TrainingConfig
from qsd.runtime import Interrupted, Report, Stopping, never
from qsd.training import checkpoint as checkpoints
from qsd.training.checkpoint import Checkpoint, Clock
from qsd.training.jsonl_log import JsonlLog
from qsd.training.method import Method
from qsd.training.metrics import FILE, FLUSH_STEPS, VALIDATION, MetricsLog
from qsd.training.optimizer import Optimizer, OptimizerSettings, learning_rate
from qsd.training.reporter import TrainingReporter

_METHOD = "method/"
"""Prefix of the method's own tensors in a checkpoint."""

M = TypeVar("M", bound=Method)


@dataclass(frozen=True)
class Recipe:
    """How weights are updated, and how often they are saved.

    Attributes:
        optimizer: with the number of steps.
        checkpoint_steps: steps between checkpoints.
        checkpoint_seconds: and at most this long between them.
    """

    optimizer: OptimizerSettings
    checkpoint_steps: int
    checkpoint_seconds: float

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training."""
        return self.optimizer.schedule.steps

    @classmethod
    def of_adapter(cls, training: TrainingConfig) -> Recipe:
        """The recipe of an adapter's training."""
        # Decay leads A and B back to the base model, and DoRA's lengths of rows away from it.
        optimizer = OptimizerSettings(
            training, training.weight_decay, training.max_grad_norm, undecayed="lora_magnitude_vector"
        )
        return cls(optimizer, training.checkpoint_steps, training.checkpoint_seconds)


class Engine(Generic[M]):
    """Trains the weights of one method.

    Args:
        method: what is trained, on what.
        recipe: optimiser, number of steps, checkpoints.
    """

    def __init__(self, method: M, recipe: Recipe) -> None:
        self.method = method
        self.recipe = recipe
        self.optimizer = Optimizer(method.parameters, recipe.optimizer)
        self._processes = method.processes

    def run(
        self, output: Path, state: Path, report: Report, stopping: Stopping = never, attempt: Path | None = None
    ) -> int:
        """Train to the end, from the last checkpoint in ``state`` if there is one.

        Args:
            output: folder for ``metrics.jsonl`` and, of a method that validates, ``validation.jsonl``.
            state: folder for the checkpoint.
            report: called after each step.
            stopping: asked before each step.
            attempt: folder of the attempt, for its rates and the method's own files; None keeps none.

        Returns:
            The number of steps that this call has made.

        Raises:
            NonFiniteLossError: a number that must be finite is not.
            Interrupted: it was asked to stop, and did so after a whole step, with a checkpoint.
        """
        method, steps = self.method, self.recipe.steps
        checkpoint = self._resume(state)
        first = checkpoint.step
        metrics, validation = self._open_logs(output, checkpoint)
        clock = Clock(self.recipe.checkpoint_steps, self.recipe.checkpoint_seconds)
        throughput = method.prepare(min(first, steps - 1))
        throughput.start()
        reporter = TrainingReporter(method, throughput, attempt)
        with method.session():
            for step in range(first, steps):
                if self._must_stop(step - first, stopping):
                    if step > first:
                        self._save(state, step, metrics, validation)
                    raise Interrupted(f"stopped after {step} of {steps} steps")
                values, grad_norm = self.step(step)
                done = step + 1
                throughput.trained += method.units(step)
                further = method.further_columns(done)
                if metrics.add(step, values, grad_norm, learning_rate(self.recipe.optimizer.schedule, step), further):
                    reporter.log_steps(metrics.recent)
                reporter.log_further(done, further)
                self._validate(done, validation, reporter)
                report(done, steps, "steps")
                if done < steps and clock.due(done):
                    self._save(state, done, metrics, validation)
        metrics.close()
        validation.close()
        reporter.log_summary(steps - first, metrics.recent)
        return steps - first

    def step(self, step: int) -> tuple[Tensor, Tensor]:
        """One optimiser step: the values of the method's columns, [C], and the gradient norm before clipping.

        AdamW leaves parameters without a gradient alone, so a step without any changes nothing.
        """
        values = self.method.step(step)
        # Sums of nothing would be zeros, not nothing: momentum and weight decay would move the weights.
        if self.method.has_gradients(values):
            self._processes.sum_gradients(self.method.parameters.values())
        grad_norm = self.optimizer.step(step)
        self.method.averages.update(step)
        self.method.after_update()
        return values, grad_norm

    def _resume(self, state: Path) -> Checkpoint:
        """The checkpoint to continue from, loaded; an empty one for a new run."""
        checkpoint = checkpoints.load(state)
        if checkpoint:
            self.optimizer.load_tensors(checkpoint.tensors)
            self.method.averages.load_tensors(checkpoint.tensors)
            self.method.load_tensors(_without_prefix(checkpoint.tensors))
        # No process may write the next checkpoint while another still reads this one.
        self._processes.wait()
        return checkpoint or Checkpoint()

    def _save(self, state: Path, done: int, metrics: MetricsLog, validation: JsonlLog) -> None:
        # Every process flushes, so that all of them raise when the training has diverged.
        lengths = {"metrics_bytes": metrics.flush(), "validation_bytes": validation.flush()}
        if self._processes.main:
            own = {f"{_METHOD}{name}": tensor for name, tensor in self.method.tensors().items()}
            tensors = {**self.optimizer.tensors(), **self.method.averages.tensors(), **own}
            checkpoints.save(state, Checkpoint(done, tensors=tensors, **lengths))

    def _open_logs(self, output: Path, checkpoint: Checkpoint) -> tuple[MetricsLog, JsonlLog]:
        """The logs of metrics and validation; files in the main process only."""
        method, main = self.method, self._processes.main
        metrics_file = output / FILE if main else None
        validation_file = output / VALIDATION if main and method.validates else None
        metrics = MetricsLog(metrics_file, checkpoint.metrics_bytes, method.columns, method.finite, method.lower)
        return metrics, JsonlLog(validation_file, checkpoint.validation_bytes)

    def _validate(self, done: int, log: JsonlLog, reporter: TrainingReporter) -> None:
        row = self.method.validate(done)
        if row is not None:
            reporter.log_validation(log.add(row))
            log.flush()

    def _must_stop(self, steps: int, stopping: Stopping) -> bool:
        """Several processes stop together, and ask one another only when they wait for the device anyway."""
        if self._processes.count > 1 and steps % FLUSH_STEPS:
            return False
        return self._processes.any(stopping(), self.method.device)


def _without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The method's own tensors of a checkpoint, under the names that the method gave them."""
    return {name.removeprefix(_METHOD): tensor for name, tensor in tensors.items() if name.startswith(_METHOD)}
