"""The training loop of every off-policy loss.

A step takes the next ``pairs_per_step`` pairs of the stream, in micro-batches that fit in memory, shared out among the
processes. Each micro-batch gives four errors per pair (``errors.py``), the loss turns them into one number per pair,
and its weighted mean over the *step* is differentiated. The loop knows batches and errors; a loss knows only errors.
Reference errors come from the store that cells share, or are computed on the way (``micro_batches.py``).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from qsd.errors import UserError
from qsd.losses import REGISTRY, PairErrors
from qsd.models.adapter import add_adapter
from qsd.models.attention import training_attention
from qsd.runtime import Interrupted, never
from qsd.training import checkpoint as checkpoints
from qsd.training.budget import within_budget
from qsd.training.checkpoint import Checkpoint, Clock
from qsd.training.ema import AdapterEma
from qsd.training.jsonl_log import JsonlLog
from qsd.training.metrics import FILE, FLUSH_STEPS, VALIDATION, MetricsLog, pair_sums, validation_row
from qsd.training.offpolicy.denoising_errors import Errors, model_errors, pair_errors, trained_errors
from qsd.training.offpolicy.micro_batches import MicroBatch, MicroBatches
from qsd.training.offpolicy.validation import Validation
from qsd.training.optimizer import AdapterOptimizer, learning_rate
from qsd.training.processes import Processes
from qsd.training.reporter import TrainingReporter
from qsd.training.throughput import Throughput, count_flops, peak

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from qsd.config.schema import ExperimentConfig
    from qsd.models.denoiser import Denoiser
    from qsd.runtime import Report, Stopping
    from qsd.training.offpolicy.batches import PairStream


class Trainer:
    """One adapter in training.

    Args:
        config: sections loss, lora and training, and the seed.
        denoiser: the base model; it gets the adapter.
        stream: the training pairs.
        held_out: pairs to validate on, if any.
        processes: that share each step.
        shared: folder of reference errors that cells share; None computes them in every step.

    Attributes:
        parameters: the adapter's, by name.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        denoiser: Denoiser,
        stream: PairStream,
        held_out: PairStream | None = None,
        processes: Processes | None = None,
        shared: Path | None = None,
    ) -> None:
        import torch

        config = within_budget(config, len(stream))
        training = config.training
        self.config = config
        self.denoiser = denoiser
        self.stream = stream
        self.device = denoiser.network.device
        self.processes = processes or Processes()
        self.loss = REGISTRY.get(config.loss.name)
        if training.channels_last:
            cast("Any", denoiser.network).to(memory_format=torch.channels_last)
        self.parameters = add_adapter(denoiser.network, config.lora, config.seed, denoiser.family)
        self.optimiser = AdapterOptimizer(self.parameters, training)
        self._of_loss = self.loss.averages(config.loss) if self.loss.averages else ()
        self.averages = AdapterEma(self.parameters, (*self._of_loss, *([training.ema] if training.ema else [])))
        self.batches = MicroBatches(config, denoiser, stream, self.processes, self.loss.needs_reference, shared)
        self.validation = Validation(denoiser, held_out, training, self.processes) if held_out else None

    def run(
        self, output: Path, state: Path, report: Report, stopping: Stopping = never, attempt: Path | None = None
    ) -> int:
        """Train to the end, from the last checkpoint in ``state`` if there is one; writes ``output/metrics.jsonl``.

        With ``attempt``, its folder gets ``rates.jsonl``.

        Returns:
            The number of steps that this call has made.

        Raises:
            NonFiniteLossError: the loss or its gradient is not finite.
            Interrupted: it was asked to stop, and did so after a whole step, with a checkpoint.
        """
        training, main = self.config.training, self.processes.main
        found = checkpoints.load(state)
        first = found.step if found else 0
        if found:
            self.optimiser.load_tensors(found.tensors)
            self.averages.load_tensors(found.tensors)
        self.processes.wait()
        log = MetricsLog(output / FILE if main else None, found.metrics_bytes if found else 0)
        held_out = JsonlLog(output / VALIDATION if main and self.validation else None, _length(found))
        clock = Clock(training.checkpoint_steps, training.checkpoint_seconds)
        told = TrainingReporter(self._measure(first), self.batches, self.processes, attempt)
        with self.batches:
            for step in range(first, training.steps):
                if self._stop(step, first, stopping):
                    if step > first:
                        self._keep(state, step, log, held_out)
                    raise Interrupted(f"stopped after {step} of {training.steps} steps")
                means, grad_norm = self.step(step)
                told.rates.trained += self.batches.pairs(step)
                if log.add(step, learning_rate(training, step), means, grad_norm):
                    told.log_steps(log.recent)
                done = step + 1
                self._validate(done, held_out, told)
                report(done, training.steps, "steps")
                if done < training.steps and clock.due(done):
                    self._keep(state, done, log, held_out)
        log.close()
        held_out.close()
        told.log_summary(training.steps - first, log.recent)
        return training.steps - first

    def step(self, step: int) -> tuple[Tensor, Tensor]:
        """One optimiser step; returns the means over its pairs (``metrics.OF_PAIRS``) and the gradient norm."""
        with self._kernels():
            micro_batches = self.batches.take(step)
            statistics = self._statistics(step, micro_batches)
            sums = [self._accumulate(item, statistics) for item in micro_batches]
        total = self.processes.sum(sum(sums[1:], start=sums[0]))
        self.processes.sum_gradients(self.parameters.values())
        grad_norm = self.optimiser.step(step)
        self.averages.update(step)
        return total / self.config.training.pairs_per_step, grad_norm

    def saved(self) -> AbstractContextManager[object]:
        """Inside, the UNet holds the adapter that is the result: the last step's, or its moving average."""
        return self.averages.swapped(len(self._of_loss)) if self.config.training.ema else nullcontext()

    def _accumulate(self, item: MicroBatch, statistics: Tensor | None) -> Tensor:
        """Add the gradient of some pairs of the step; returns the sums of their metrics."""
        import torch

        errors = self._errors(item)
        if self.loss.statistics:
            if statistics is None:  # the whole step is this micro-batch
                statistics = self.loss.statistics(_detached(errors), self.config.loss)
            errors = replace(errors, statistics=statistics)
        loss = item.batch.weights * self.loss.function(errors, self.config.loss)
        torch.autograd.backward(loss.sum() / self.config.training.pairs_per_step)
        return pair_sums(loss, errors)

    def _errors(self, item: MicroBatch) -> PairErrors:
        """Errors of model, reference and moving averages."""
        precision = self.config.training.precision
        if item.averaged is None:
            item.averaged = tuple(self._averaged_errors(item, index) for index in range(len(self._of_loss)))
        reference, loser = self.loss.needs_reference, self.loss.needs_loser
        return pair_errors(self.denoiser, item.batch, reference, precision, item.reference, item.averaged, loser)

    def _averaged_errors(self, item: MicroBatch, index: int) -> Errors:
        import torch

        self.batches.forwarded += item.pairs
        with torch.no_grad(), self.averages.swapped(index):
            return model_errors(self.denoiser, item.batch, self.config.training.precision)

    def _statistics(self, step: int, micro_batches: list[MicroBatch]) -> Tensor | None:
        """Of all pairs of the step, by a pass without gradients; None when the loss needs none or one batch is all."""
        import torch

        pairs = self.config.training.pairs_per_step
        if not self.loss.statistics or (len(micro_batches) == 1 and micro_batches[0].pairs == pairs):
            return None
        columns = 2 * (1 + self.loss.needs_reference + len(self._of_loss))
        table = torch.zeros(columns, pairs, device=self.device)
        with torch.no_grad():
            for item in micro_batches:
                errors = self._errors(item)
                rows = [errors.winner, errors.loser]
                if errors.ref_winner is not None and errors.ref_loser is not None:
                    item.reference = (errors.ref_winner, errors.ref_loser)
                    rows += item.reference
                rows += [row for both in errors.averaged for row in both]
                place = item.start - step * pairs
                table[:, place : place + item.pairs] = torch.stack(rows)
                self.batches.forwarded += item.pairs
        found = self.processes.sum(table)
        (winner, loser), *others = zip(found[::2], found[1::2], strict=True)
        ref_winner, ref_loser = others.pop(0) if self.loss.needs_reference else (None, None)
        errors = PairErrors(winner, loser, ref_winner, ref_loser, tuple(others))
        return self.loss.statistics(errors, self.config.loss)

    def _validate(self, done: int, log: JsonlLog, told: TrainingReporter) -> None:
        if self.validation is None or (
            done % self.config.training.validation_steps and done < self.config.training.steps
        ):
            return
        with self._kernels(), self.saved():
            means = self.validation.means(self.device)
        self.batches.forwarded += self.validation.forwarded
        told.validated(log.add(validation_row(done, self.validation.pairs, means)))
        log.flush()

    def _keep(self, state: Path, done: int, log: MetricsLog, held_out: JsonlLog) -> None:
        tensors = {**self.optimiser.tensors(), **self.averages.tensors()}
        lengths = {"metrics_bytes": log.flush(), "validation_bytes": held_out.flush()}
        if self.processes.main:
            checkpoints.save(state, Checkpoint(done, tensors=tensors, **lengths))

    def _stop(self, step: int, first: int, stopping: Stopping) -> bool:
        """Several processes stop together, and ask one another only now and then."""
        if self.processes.count > 1 and (step - first) % FLUSH_STEPS:
            return False
        return self.processes.any(stopping(), self.device)

    def _kernels(self) -> AbstractContextManager[None]:
        return training_attention(self.device, self.config.training.attention)

    def _measure(self, step: int) -> Throughput:
        """Count the operations of one pair, then compile the UNet if that is wished.

        Raises:
            UserError: the chosen attention kernels cannot compute this model.
        """
        import torch

        training = self.config.training
        start = min(step, training.steps - 1) * training.pairs_per_step
        batch = self.stream.batch(start, start + 1, self.device)

        def train() -> None:
            winner, loser = trained_errors(self.denoiser, batch, self.loss.needs_loser, training.precision)
            torch.autograd.grad(winner.sum() + loser.sum(), list(self.parameters.values()), allow_unused=True)

        def forward() -> None:
            with torch.no_grad():
                model_errors(self.denoiser, batch, training.precision)

        try:
            with self._kernels():
                rates = Throughput(count_flops(train), count_flops(forward), peak(self.device, training.precision))
        except RuntimeError as error:
            if not any(said in str(error) for said in ("No available kernel", "No viable backend")):
                raise
            raise UserError(
                f"training.attention: {training.attention} kernels cannot compute this model on {self.device.type} in "
                f"{training.precision}; use training.attention: auto"
            ) from None
        if training.compile:
            self.denoiser.network.compile()
        rates.start()
        return rates


def _length(found: Checkpoint | None) -> int:
    return found.validation_bytes if found else 0


def _detached(errors: PairErrors) -> PairErrors:
    return replace(errors, winner=errors.winner.detach(), loser=errors.loser.detach())
