"""What the on-policy methods share: prompts, sampler, reward, one batch of samples for some updates, and the words.

An optimiser step takes the next ``prompts_per_step`` prompts of the stream, shared out among the processes. The current
policy samples them and the reward model scores what they lead to; a subclass says what is kept of that (``collect``)
and how it becomes gradients (``accumulate``). With ``updates`` above 1 a batch of samples serves several steps; the
adapter that drew it is then part of the checkpoint, so that a resumed training draws the same samples again.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from qsd.adapters.facts import TrainingFacts
from qsd.config.schema import ExperimentConfig
from qsd.errors import UserError
from qsd.models.adapter import add_adapter, reference
from qsd.models.attention import training_attention
from qsd.models.denoiser import Denoiser
from qsd.training.ema import ParameterEma
from qsd.training.method import AdapterMethod
from qsd.training.methods import settings_of
from qsd.training.metrics import read_metrics
from qsd.training.onpolicy.opening import calibrate, open_sampling
from qsd.training.onpolicy.placement import check_noise, trained_steps
from qsd.training.onpolicy.prompts import PromptStream, training_prompts
from qsd.training.onpolicy.sampler import Prompts
from qsd.training.onpolicy.summary import facts_of, summary_of
from qsd.training.onpolicy.watch import Watch
from qsd.training.processes import Processes
from qsd.training.throughput import Throughput

COUNTS = ("not_finite", "passes", "trained_passes", "scored")
"""The last columns of every on-policy method: per optimiser step, summed over the processes, without watched images.

    not_finite      rewards that are infinite or not a number; what they belong to is left out
    passes          images that went through the network without gradients, guidance halves counted each
    trained_passes  images that went through it with gradients
    scored          images that the reward model scored
"""

S = TypeVar("S")
"""What ``collect`` keeps of a batch of samples."""


class OnPolicyMethod(AdapterMethod, Generic[S]):
    """One adapter in training on its own samples.

    Args:
        config: sections method, reward, loss, lora and training, and the seed.
        inputs: none.
        denoiser: the base model; it gets the adapter.
        processes: that share each step; by default this one alone.
        shared_errors: not used; the argument is that of every adapter's method.

    Attributes:
        settings: of the method, its defaults filled in.
        sampler: with the adapter.
        reward: of clean latents.
        trained: the sampler's steps on which the network is trained.

    Raises:
        UserError: prompts or weights that cannot be read, fewer prompts of a step than processes, a LoRA target
            without layers, or trained steps none of which brings noise.
    """

    unit = "prompts"
    means: ClassVar[tuple[str, ...]]
    """Columns before ``COUNTS``: means over the batch, the first of them ``loss`` and ``reward``."""
    lower = "training.learning_rate or lora.alpha"

    def __init__(
        self,
        config: ExperimentConfig,
        inputs: Mapping[str, Path],
        denoiser: Denoiser,
        processes: Processes | None = None,
        shared_errors: Path | None = None,
    ) -> None:
        self.config = config
        self.settings: Any = settings_of(config)
        self.denoiser = denoiser
        self.processes = processes or Processes()
        if self.processes.count > self.settings.prompts_per_step:
            raise UserError(
                f"method.prompts_per_step is {self.settings.prompts_per_step}, but there are {self.processes.count} "
                f"processes; start at most {self.settings.prompts_per_step}"
            )
        names = ("sampler_steps", "trained_steps", "skipped_steps", "placement")
        self.trained = trained_steps(*(getattr(self.settings, name) for name in names))
        self.stream = PromptStream(training_prompts(self.settings.prompts, tuple(self.settings.splits)), config.seed)
        if config.training.channels_last:
            denoiser.use_channels_last()
        self.parameters = add_adapter(denoiser.network, config.lora, config.seed, denoiser.family)
        self.averages = ParameterEma(self.parameters, (), config.training.ema)
        self.sampler, self.reward = open_sampling(config, self.settings, denoiser, self.device)
        self._noiseless = check_noise(self.trained, self.sampler.deviations().tolist())
        self.watch = Watch(self.sampler, self.reward, config, self.settings) if self.settings.watched_prompts else None
        self.validates = self.watch is not None
        self._batch: tuple[int, S, Prompts] | None = None
        self._sampled_by: dict[str, Tensor] = {}

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        """Means over the batch, then counts."""
        return (*self.means, *COUNTS)

    # ── What a method brings ─────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def collect(self, prompts: Prompts) -> S:
        """Sample prompts under the current policy, score the samples, and keep what the updates need."""

    @abstractmethod
    def accumulate(self, samples: S, prompts: Prompts) -> Tensor:
        """Add the gradients of this process's samples to the parameters.

        Returns:
            For each of ``means``, (sum, what it is divided by), [M, 2]: the engine's columns are the ratios of their
            sums over the processes.
        """

    # ── The engine's side ────────────────────────────────────────────────────────────────────────────────────────────

    def keep_files(self, output: Path) -> None:
        """The watched images go there."""
        if self.watch is not None:
            self.watch.keep_images(output)

    def units(self, step: int) -> int:
        """Prompts of this process in a step."""
        return sum(stop - start for start, stop in self._shares())

    def step(self, step: int) -> Tensor:
        """Sample if it is time to, and add the gradients of this process's samples."""
        before = self._counts()
        with training_attention(self.device, self.config.training.attention):
            samples, prompts = self._samples(step)
            sums = self.accumulate(samples, prompts)
        counts = [after - earlier for after, earlier in zip(self._counts(), before, strict=True)]
        table = torch.cat([sums.double().flatten(), torch.tensor(counts, dtype=torch.float64, device=self.device)])
        total = self.processes.sum(table)
        pairs = total[: 2 * len(self.means)].view(-1, 2)
        means = torch.where(pairs[:, 1] > 0, pairs[:, 0] / pairs[:, 1], torch.full_like(pairs[:, 0], torch.nan))
        # A loss over nothing is no divergence.
        means[0] = torch.where(pairs[0, 1] > 0, means[0], torch.zeros_like(means[0]))
        return torch.cat([means, total[2 * len(self.means) :]]).float()

    def has_gradients(self, values: Tensor) -> bool:
        """Whether any sample of the step was used in any process."""
        # A column: every process has the same bits of it, so all of them decide the same without another exchange.
        return bool(values[self.columns.index("used")] > 0)

    def prepare(self, step: int) -> Throughput:
        """Compile the network if the configuration asks for it; operations of a prompt are not counted."""
        if self.config.training.compile:
            self.denoiser.network.compile()
        return Throughput(self.unit)

    def validate(self, done: int) -> Mapping[str, float] | None:
        """Rewards of the watched prompts' images, and a strip of them, every ``validation_steps`` and at the end."""
        training = self.config.training
        if self.watch is None or (done % training.validation_steps and done < training.steps):
            return None
        if not self.processes.main:
            return None
        with training_attention(self.device, training.attention), self.averages.result():
            return self.watch.row(done)

    def describe_validation(self, row: Mapping[str, Any]) -> str:
        """The rewards, each with its difference from the base model's."""
        assert self.watch is not None
        return self.watch.describe(row)

    def tensors(self) -> Mapping[str, Tensor]:
        """The reward's scale, and the adapter that drew the batch if further updates will use it."""
        sampled_by = {f"sampled_by/{name}": tensor for name, tensor in self._sampled_by.items()}
        return {**{f"reward/{name}": tensor for name, tensor in self.reward.tensors().items()}, **sampled_by}

    def load_tensors(self, stored: Mapping[str, Tensor]) -> None:
        """Continue from what ``tensors`` gave."""
        reward, sampled_by = (
            {name.removeprefix(prefix): tensor for name, tensor in stored.items() if name.startswith(prefix)}
            for prefix in ("reward/", "sampled_by/")
        )
        self.reward.load_tensors(reward)
        self._sampled_by = {name: tensor.to(self.device) for name, tensor in sampled_by.items()}

    def session(self) -> AbstractContextManager[object]:
        """Before the first step, put an ensemble's members on one scale, by the base model's images of some prompts."""
        with reference(self.denoiser.network):
            calibrate(self.reward, self.sampler, self.stream)
        return super().session()

    # ── Results ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def summary(self, output: Path) -> dict[str, Any]:
        """See :class:`AdapterMethod`; writes ``strip.png``, the watched prompts' images over the training."""
        trained = sum(parameter.numel() for parameter in self.parameters.values())
        if self.watch is not None:
            self.watch.write_strip(output)
        return summary_of(self.config, self.settings, len(self.stream), trained, read_metrics(output), self.means)

    def facts(self, settings: Mapping[str, Any], summary: Mapping[str, Any]) -> TrainingFacts:
        """See :class:`AdapterMethod`."""
        return facts_of(self.config, self.settings, self.stream, self.reward, summary)

    def describe(self, row: Mapping[str, Any]) -> str:
        """Every mean of the method by name."""
        return ", ".join(
            f"{name.replace('_', ' ')} {row[name]:.4g}" for name in self.means if row.get(name) is not None
        )

    def opening_lines(self) -> Iterator[str]:
        """What is sampled, what is trained, and what scores."""
        shown = self.settings
        yield (
            f"method {self.config.method.name}: {shown.prompts_per_step} of {len(self.stream)} prompts a step, "
            f"{self.sampler.steps} sampler steps, trained at {', '.join(str(step) for step in self.trained)}; "
            f"reward {self.reward.described}"
        )
        if self._noiseless:
            yield f"no noise, so nothing to learn, at trained step {', '.join(str(step) for step in self._noiseless)}"

    # ── Inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _shares(self) -> list[tuple[int, int]]:
        """The positions of this process within a batch."""
        count = self.settings.prompts_per_step
        each = -(-count // self.processes.count)
        return self.processes.shares(0, count, each)

    def _samples(self, step: int) -> tuple[S, Prompts]:
        """The samples that a step trains on."""
        number, place = divmod(step, self.settings.updates)
        if self._batch is None or self._batch[0] != number:
            if place == 0:
                self._sampled_by = {}
                if self.settings.updates > 1:
                    self._sampled_by = {name: item.detach().clone() for name, item in self.parameters.items()}
                samples, prompts = self._collected(number)
            else:
                counts = self.sampler.passes, self.sampler.trained_passes, self.reward.calls, self.reward.not_finite
                with self._policy_of_the_batch():
                    samples, prompts = self._collected(number)
                    self.prepare_later_updates(samples, prompts)
                # These samples were counted when they were first drawn.
                self.sampler.passes, self.sampler.trained_passes, self.reward.calls, self.reward.not_finite = counts
            self._batch = number, samples, prompts
        return self._batch[1], self._batch[2]

    def parts(self, rows: Tensor) -> list[Tensor]:
        """Rows [N] in passes of ``training.micro_batch``; none for no rows."""
        return list(torch.split(rows, self.config.training.micro_batch)) if len(rows) else []

    def prepare_later_updates(self, samples: S, prompts: Prompts) -> None:
        """Called on samples that were drawn again after an interruption, under the policy that first drew them."""
        return

    def _collected(self, number: int) -> tuple[S, Prompts]:
        first = number * self.settings.prompts_per_step
        chosen, visits = [], []
        for start, stop in self._shares():
            prompts, seen = self.stream.at(first + start, first + stop)
            chosen += prompts
            visits += seen
        batch = self.sampler.prompts(chosen, visits)
        with torch.no_grad():
            return self.collect(batch), batch

    def _policy_of_the_batch(self) -> AbstractContextManager[None]:
        return _swapped(self.parameters, self._sampled_by)

    def _counts(self) -> tuple[int, int, int, int]:
        return self.reward.not_finite, self.sampler.passes, self.sampler.trained_passes, self.reward.calls


@contextmanager
def _swapped(parameters: Mapping[str, torch.nn.Parameter], values: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the parameters have other values; afterwards their own again, bit by bit."""
    own = {name: item.detach().clone() for name, item in parameters.items()}
    _put(parameters, values)
    try:
        yield
    finally:
        _put(parameters, own)


@torch.no_grad()
def _put(parameters: Mapping[str, torch.nn.Parameter], values: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(values[name])
