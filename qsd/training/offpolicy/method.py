"""The method of all off-policy losses: an adapter is fine-tuned on preference pairs.

A step takes the next ``pairs_per_step`` pairs of the stream, in micro-batches that fit in memory, shared out among the
processes. Each micro-batch gives four errors per pair (``denoising_errors.py``), the loss turns them into one number
per pair, and its weighted mean over the *step* is differentiated. The method knows batches and errors; a loss knows
only errors. Reference errors come from the store that cells share, or are computed with each micro-batch
(``micro_batches.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qsd.adapters.facts import TrainingFacts
from qsd.config.schema import ExperimentConfig
from qsd.encoding.store import EncodedPairs
from qsd.errors import UserError
from qsd.losses import REGISTRY, PairErrors
from qsd.models.adapter import add_adapter
from qsd.models.adapter_dropout import dropout_switch
from qsd.models.attention import training_attention
from qsd.models.denoiser import Denoiser
from qsd.training.ema import ParameterEma
from qsd.training.method import AdapterMethod
from qsd.training.metrics import read_metrics
from qsd.training.offpolicy.automatic_beta import AutomaticBeta, automatic_beta, sum_of_sizes
from qsd.training.offpolicy.batches import open_stream
from qsd.training.offpolicy.budget import within_budget
from qsd.training.offpolicy.columns import (
    COLUMNS,
    describe,
    describe_validation,
    only_losers_moved,
    pair_sums,
    validation_row,
)
from qsd.training.offpolicy.denoising_errors import Errors, model_errors, pair_errors
from qsd.training.offpolicy.detection import Detection
from qsd.training.offpolicy.detector import Opinions, detect, detection_stream, has_annotators, judged_pairs
from qsd.training.offpolicy.micro_batches import MicroBatch, MicroBatches
from qsd.training.offpolicy.running_scales import RunningScales, running_scales
from qsd.training.offpolicy.summary import beta_convention, facts_of, schedule_line, summary_of
from qsd.training.offpolicy.trial_pass import TrialPass
from qsd.training.offpolicy.validation import Validation, open_held_out
from qsd.training.processes import Processes
from qsd.training.throughput import Throughput, count_flops, peak


class PairsMethod(AdapterMethod):
    """One adapter in training on pairs.

    Args:
        config: sections loss, lora and training, and the seed.
        inputs: folders of the stages select and encode.
        denoiser: the base model; it gets the adapter.
        processes: that share each step; by default this one alone.
        shared_errors: folder of reference errors that cells share; None computes them in every step.

    Attributes:
        config: with the number of steps that the budget gives.
        stream: the training pairs.
        loss: as registered.

    Raises:
        UserError: nothing to train on, too few pairs to validate on, or a LoRA target without layers.
    """

    unit = "pairs"
    columns: tuple[str, ...] = COLUMNS
    lower = "training.learning_rate, loss.beta or lora.alpha"

    def __init__(
        self,
        config: ExperimentConfig,
        inputs: Mapping[str, Path],
        denoiser: Denoiser,
        processes: Processes | None = None,
        shared_errors: Path | None = None,
    ) -> None:
        self.inputs = inputs
        self.denoiser = denoiser
        self.processes = processes or Processes()
        self.stream = open_stream(inputs, config, denoiser.process)
        held_out = open_held_out(inputs, config, denoiser.process)
        self.config = config = within_budget(config, len(self.stream))
        training = config.training
        self.loss = REGISTRY.get(config.loss.name)
        if training.channels_last:
            denoiser.use_channels_last()
        self.parameters = add_adapter(denoiser.network, config.lora, config.seed, denoiser.family)
        self._dropout = dropout_switch(denoiser.network)
        self._trial = TrialPass(
            denoiser, self.stream, self.parameters, self._dropout, self.loss.needs_loser, training.precision
        )
        if not training.micro_batch:
            most = -(-training.pairs_per_step // self.processes.count)
            fitting = self.processes.least(self._trial.micro_batch(most, training.attention), self.device)
            training = replace(training, micro_batch=fitting)
            self.config = config = replace(config, training=training)
        self._loss_decays = self.loss.averages(config.loss) if self.loss.averages else ()
        self.averages = ParameterEma(self.parameters, self._loss_decays, training.ema)
        self.automatic_beta = automatic_beta(self.loss, config.loss, self.device)
        self._scales = running_scales(self.loss, config.loss, self.device)
        self._loss_settings: Any = config.loss
        if self.automatic_beta is not None:
            self.columns = (*COLUMNS, "beta")  # of this training alone
        self.batches = MicroBatches(
            config, denoiser, self.stream, self.processes, self.loss.needs_reference, shared_errors
        )
        self.validation = Validation(denoiser, held_out, training, self.processes) if held_out else None
        self.validates = self.validation is not None

    @property
    def forwarded(self) -> int:
        """Passes of a pair without gradients that this process has made."""
        return self.batches.forwarded

    def session(self) -> AbstractContextManager[object]:
        """A thread makes batches meanwhile."""
        return self.batches

    def units(self, step: int) -> int:
        """Pairs of this process in a step."""
        return self.batches.pairs(step)

    def step(self, step: int) -> Tensor:
        """Add the gradients of this process's pairs; returns the means of ``COLUMNS`` over all pairs of the step."""
        if self.automatic_beta is not None:
            self._loss_settings = self.automatic_beta.settings()
        with self.kernels():
            micro_batches = self.batches.take(step)
            statistics = self._statistics(step, micro_batches)
            sums = [self._accumulate(item, statistics) for item in micro_batches]
        means = self.processes.sum(sum(sums[1:], start=sums[0])) / self.config.training.pairs_per_step
        if self.automatic_beta is None:
            return means
        self.automatic_beta.update(means[-1:])
        return torch.cat([means[:-1], self._loss_settings.beta.reshape(1)])

    def tensors(self) -> Mapping[str, Tensor]:
        """The running mean of an automatic β, and the running scales of a metric."""
        return {name: tensor for state in self._states() for name, tensor in state.tensors().items()}

    def load_tensors(self, stored: Mapping[str, Tensor]) -> None:
        """Continue with the automatic β and the scales of a checkpoint."""
        for state in self._states():
            state.load_tensors(stored)

    def kernels(self) -> AbstractContextManager[None]:
        """The attention kernels that the configuration asks for, for every pass through the model."""
        return training_attention(self.device, self.config.training.attention)

    def prepare(self, step: int) -> Throughput:
        """Count the operations of one pair, then compile the network if the configuration asks for it.

        Raises:
            UserError: the chosen attention kernels cannot compute this model.
        """
        training = self.config.training
        try:
            with self.kernels():
                flops = count_flops(lambda: self._trial.train(1)), count_flops(lambda: self._trial.forward(1))
        except RuntimeError as error:
            if not any(words in str(error) for words in ("No available kernel", "No viable backend")):
                raise
            raise UserError(
                f"training.attention: {training.attention} kernels cannot compute this model on {self.device.type} in "
                f"{training.precision}; use training.attention: auto"
            ) from None
        if training.compile:
            self.denoiser.compile()
        return Throughput(self.unit, *flops, peak(self.device, training.precision))

    def validate(self, done: int) -> dict[str, float] | None:
        """Means over held-out pairs, every ``validation_steps`` and after the last step."""
        training = self.config.training
        if self.validation is None or (done % training.validation_steps and done < training.steps):
            return None
        with self.kernels(), self.averages.result():
            means = self.validation.means(self.device)
        self.batches.forwarded += self.validation.forwarded
        return validation_row(done, self.validation.pairs, means)

    def find_flips(self) -> Detection | None:
        """Whether flipped labels can be found by the trained model.

        None where there is nothing to find: no flips were injected and the loss has no annotators, or all labels were
        replaced by those of a reward model (``data.relabel``).
        """
        if self.config.data.relabel != "none" or not (self.stream.flipped.any() or has_annotators(self.loss)):
            return None
        encoded, select = EncodedPairs(self.inputs["encode"]), self.inputs["select"]
        fold = self.config.training.held_out_fold
        judged = judged_pairs(select, self.stream, fold)
        stream = detection_stream(encoded, judged, self.config, self.denoiser.process)
        which = "that were trained on" if fold is None else f"of fold {fold}, which was not trained on"
        print(f"judging {len(stream)} of {len(judged.pair_ids)} pairs {which}: are flipped labels found?", flush=True)
        return detect(self.denoiser, self.averages, stream, self.config, Opinions.read(select))

    def summary(self, output: Path) -> dict[str, Any]:
        """See :class:`AdapterMethod`; writes ``detector.parquet`` where there are flips to find."""
        trained = sum(parameter.numel() for parameter in self.parameters.values())
        content = summary_of(self.config, self.stream, trained, read_metrics(output))
        detection = self.find_flips()
        if detection is not None:
            detection.write(output)
            content["detector"] = {
                **detection.summary(),
                "draws": self.config.training.detection_draws,
                "held_out_fold": self.config.training.held_out_fold,
                "scorer": self.config.reward.model,
                "judge": self.config.data.judge_agrees,
            }
        return content

    def facts(self, settings: Mapping[str, Any], summary: Mapping[str, Any]) -> TrainingFacts:
        """See :class:`AdapterMethod`."""
        return facts_of(self.config, self.inputs, settings, summary)

    def describe(self, row: Mapping[str, Any]) -> str:
        """Loss, gradient norm, accuracy and errors against the reference."""
        return describe(row)

    def describe_validation(self, row: Mapping[str, Any]) -> str:
        """Implicit accuracy and errors against the reference."""
        return describe_validation(row)

    def opening_lines(self) -> Iterator[str]:
        """What β multiplies, because public codes mean different things by it, and the pairs of a pass."""
        training = self.config.training
        yield f"{training.pairs_per_step} pairs a step, at most {training.micro_batch} in a forward pass"
        yield beta_convention(self.config)
        if self.automatic_beta is not None:
            yield schedule_line(self.config)

    def closing_lines(self, mean: Mapping[str, Any]) -> Iterator[str]:
        """Reference errors, and whether the margin was won by making losers worse."""
        cache = self.batches.cache_summary()
        if cache is not None:
            yield cache
        if only_losers_moved(mean):
            yield (
                "note: losers got worse and winners no better than under the base model: the margin grew only because "
                "losers got worse"
            )

    def _accumulate(self, item: MicroBatch, statistics: Tensor | None) -> Tensor:
        """Add the gradient of some pairs of the step; returns the sums of ``COLUMNS`` over them, [7].

        With an automatic β the sum of |d| follows, [8].
        """
        # The backward pass is inside, too: gradient checkpointing repeats the forward pass in it, dropout included.
        with self._dropout.on(item.batch.dropout_keys):
            errors = self._errors(item)
            if self.loss.statistics:
                if statistics is None:  # the whole step is this micro-batch
                    statistics = self._statistics_of(_detached(errors))
                errors = replace(errors, statistics=statistics)
            loss = item.batch.weights * self.loss.function(errors, self._loss_settings)
            torch.autograd.backward(loss.sum() / self.config.training.pairs_per_step)
        sums = pair_sums(loss, errors)
        return sums if self.automatic_beta is None else torch.cat([sums, sum_of_sizes(errors).reshape(1)])

    def _errors(self, item: MicroBatch) -> PairErrors:
        """Errors of model, reference and the moving averages that the loss reads."""
        precision = self.config.training.precision
        if item.averaged is None:
            item.averaged = tuple(self._averaged_errors(item, index) for index in range(len(self._loss_decays)))
        reference, loser = self.loss.needs_reference, self.loss.needs_loser
        return pair_errors(self.denoiser, item.batch, reference, precision, item.reference, item.averaged, loser)

    def _averaged_errors(self, item: MicroBatch, index: int) -> Errors:
        self.batches.forwarded += item.pairs
        with torch.no_grad(), self.averages.swapped(index), self._dropout.on(None):
            return model_errors(self.denoiser, item.batch, self.config.training.precision)

    def _statistics(self, step: int, micro_batches: list[MicroBatch]) -> Tensor | None:
        """``Loss.statistics`` over all pairs of the step, by a pass without gradients.

        None when the loss needs none, or when one micro-batch is the whole step and a pass of its own would be wasted.
        """
        pairs = self.config.training.pairs_per_step
        if not self.loss.statistics or (len(micro_batches) == 1 and micro_batches[0].pairs == pairs):
            return None
        # Each process fills the columns of its own pairs and leaves zeros elsewhere, so the sum over the processes is
        # the table of the whole step in order of position, whichever process computed what.
        rows = 2 * (1 + self.loss.needs_reference + len(self._loss_decays))
        table = torch.zeros(rows + 1, pairs, device=self.device)
        with torch.no_grad():
            for item in micro_batches:
                # With the masks of the pass that follows, as where one micro-batch is the whole step.
                with self._dropout.on(item.batch.dropout_keys):
                    errors = self._errors(item)
                columns = [errors.winner, errors.loser]
                if errors.ref_winner is not None and errors.ref_loser is not None:
                    item.reference = (errors.ref_winner, errors.ref_loser)  # not computed again with gradients
                    columns += item.reference
                columns += [column for both in errors.averaged for column in both]
                place = item.start - step * pairs
                times = item.batch.timesteps[: item.pairs]
                table[:, place : place + item.pairs] = torch.stack([*columns, times.to(table)])
                self.batches.forwarded += item.pairs
        total = self.processes.sum(table)
        timesteps = total[-1].to(micro_batches[0].batch.timesteps)  # fp32 holds every timestep and every σ
        (winner, loser), *others = zip(total[:-1:2], total[1:-1:2], strict=True)
        ref_winner, ref_loser = others.pop(0) if self.loss.needs_reference else (None, None)
        errors = PairErrors(winner, loser, ref_winner, ref_loser, tuple(others), timesteps=timesteps)
        return self._statistics_of(errors)

    def _statistics_of(self, errors: PairErrors) -> Tensor:
        """``Loss.statistics`` of all pairs of a step, detached, followed by the running scales; once for each step."""
        assert self.loss.statistics is not None
        statistics = self.loss.statistics(errors, self._loss_settings)
        return statistics if self._scales is None else torch.cat([statistics, self._scales.update(errors)])

    def _states(self) -> list[AutomaticBeta | RunningScales]:
        """What a training carries from step to step beside its weights and averages."""
        return [state for state in (self.automatic_beta, self._scales) if state is not None]


def _detached(errors: PairErrors) -> PairErrors:
    return replace(errors, winner=errors.winner.detach(), loser=errors.loser.detach())
