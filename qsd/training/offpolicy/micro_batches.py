"""The micro-batches of a step on the device, with their reference errors where cells share them.

A thread makes batches ahead of their step. With a shared store, the next few steps are taken together: what the store
lacks for them is computed in one go (``qsd.reference.shared``), so that cells running at once hardly wait for one
another.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from qsd.config.schema import ExperimentConfig
from qsd.errors import UserError
from qsd.models.attention import training_attention
from qsd.models.denoiser import Denoiser
from qsd.reference.identity import fingerprints, folder_name
from qsd.reference.shared import FingerprintedBatch, SharedErrors
from qsd.training.offpolicy.batches import PairBatch, PairStream
from qsd.training.offpolicy.denoising_errors import Errors, reference_errors
from qsd.training.prefetch import Prefetched, moved, pinned
from qsd.training.processes import Processes

WINDOW_PAIRS = 256
"""About so many pairs are looked up and computed together."""
TOLERANCE = 1e-6
"""How far a stored error may be from one computed now, except in fp32 on a CPU, where they must be equal. Errors are of
order 0.1 to 1; at β = 5000 this moves a logit's factor by 0.0025."""

_NO_FINGERPRINTS = np.empty((0, 2), dtype=np.uint64)


@dataclass
class MicroBatch:
    """Pairs ``start`` to ``start + pairs - 1`` of the stream, on the device, and their errors where known."""

    start: int
    batch: PairBatch
    reference: Errors | None = None
    averaged: tuple[Errors, ...] | None = None

    @property
    def pairs(self) -> int:
        """How many pairs."""
        return len(self.batch.pair_ids)


class MicroBatches:
    """The micro-batches of this process, step by step.

    Args:
        config: of the training.
        denoiser: for reference errors.
        stream: the pairs.
        processes: that share a step.
        needs_reference: whether the loss reads reference errors.
        shared: folder of reference errors that cells share; None computes them with each micro-batch.

    Attributes:
        forwarded: passes of a pair without gradients; a caller that makes one adds it.

    Raises:
        UserError: fewer pairs in a step than processes.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        denoiser: Denoiser,
        stream: PairStream,
        processes: Processes,
        needs_reference: bool,
        shared: Path | None,
    ) -> None:
        pairs = config.training.pairs_per_step
        if pairs < processes.count:
            raise UserError(
                f"training.pairs_per_step is {pairs}, but there are {processes.count} processes; start at most {pairs}"
            )
        self._training = config.training
        self._denoiser = denoiser
        self._stream = stream
        self._processes = processes
        self._needs_reference = needs_reference
        self._device = denoiser.network.device
        self._shared: SharedErrors[PairBatch] | None = None
        if needs_reference and shared is not None and config.training.reference_errors == "shared":
            lane = f"{processes.rank}-of-{processes.count}"
            self._shared = SharedErrors(
                shared / folder_name(config, self._device), self._compute, PairBatch.gather, lane
            )
        self._window = max(1, WINDOW_PAIRS // pairs) if self._shared else 1
        self._made = Prefetched(self._make, max(2, self._window), self._training.steps)
        self._ready: dict[int, list[tuple[FingerprintedBatch[PairBatch], npt.NDArray[np.float32]]]] = {}
        self._checked = False
        self.forwarded = 0

    def __enter__(self) -> Self:
        self._made.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ready.clear()
        self._made.__exit__(kind, error, trace)

    def places(self, step: int) -> list[tuple[int, int]]:
        """(start, stop) of this process's micro-batches of a step."""
        pairs = self._training.pairs_per_step
        return self._processes.shares(step * pairs, (step + 1) * pairs, self._training.micro_batch)

    def pairs(self, step: int) -> int:
        """Pairs of this process in a step."""
        return sum(stop - start for start, stop in self.places(step))

    def take(self, step: int) -> list[MicroBatch]:
        """The micro-batches of a step, in order."""
        starts = [start for start, _ in self.places(step)]
        if self._shared is not None and step not in self._ready:
            self._look_up(range(step, max(step + 1, min(step + self._window, self._training.steps))))
            if not self._checked:
                self._checked = True
                self._check(step)
        if self._shared is None:
            batches = [moved(item.batch, self._device) for item in self._made.take(step)]
            self.forwarded += sum(len(batch.pair_ids) for batch in batches) * self._needs_reference
            return [MicroBatch(start, batch) for start, batch in zip(starts, batches, strict=True)]
        return [
            MicroBatch(start, moved(item.batch, self._device), self._on_device(errors))
            for start, (item, errors) in zip(starts, self._ready.pop(step), strict=True)
        ]

    def cache_summary(self) -> str | None:
        """How many reference errors were found and computed, for people; None for a loss without reference."""
        if not self._needs_reference:
            return None
        if self._shared is None:
            return "reference errors: computed in every step"
        damaged = f"; {self._shared.damaged} damaged files were removed" if self._shared.damaged else ""
        return (
            f"reference errors: {self._shared.found:,} found, {self._shared.computed:,} computed for all cells{damaged}"
        )

    def _make(self, step: int) -> list[FingerprintedBatch[PairBatch]]:
        """Runs in the thread of ``Prefetched``; fingerprints are made only where errors are looked up by them."""
        batches = [self._stream.batch(start, stop, torch.device("cpu")) for start, stop in self.places(step)]
        prints = [fingerprints(batch) if self._shared else _NO_FINGERPRINTS for batch in batches]
        if self._device.type == "cuda":
            batches = [pinned(batch) for batch in batches]
        return [FingerprintedBatch(*item) for item in zip(batches, prints, strict=True)]

    def _look_up(self, steps: range) -> None:
        """The stored reference errors of some steps; computed first where they are not stored."""
        assert self._shared is not None
        made = {step: self._made.take(step) for step in steps}
        errors = iter(self._shared.of([item for step in steps for item in made[step]]))
        self._ready = {step: [(item, next(errors)) for item in made[step]] for step in steps}

    def _check(self, step: int) -> None:
        """Compare stored errors with errors computed now, once per training; where they differ, use no stored ones."""
        first, stored = self._ready[step][0]
        allowed = 0.0 if self._device.type == "cpu" and self._training.precision == "fp32" else TOLERANCE
        computed = self._compute(first.batch).cpu().numpy()
        if not np.allclose(stored, computed, rtol=0, atol=allowed, equal_nan=True):
            worst = float(np.nanmax(np.abs(stored - computed), initial=0.0))
            print(
                f"reference errors: the stored ones are {worst:.1e} from those computed now (allowed: {allowed:g}); "
                "computing them in every step",
                flush=True,
            )
            self._shared = None
            self._ready.clear()

    def _compute(self, batch: PairBatch) -> Tensor:
        """Reference errors of a batch on the CPU, [B, 2] on the device, with the kernels of the loop."""
        self.forwarded += len(batch.pair_ids)
        if self._device.type == "cuda":
            batch = pinned(batch)
        with training_attention(self._device, self._training.attention):
            both = reference_errors(self._denoiser, moved(batch, self._device), self._training.precision)
        return torch.stack(both, dim=1)

    def _on_device(self, errors: npt.NDArray[np.float32]) -> Errors:
        """Stored errors, by a copy that does not wait."""
        both = torch.from_numpy(np.ascontiguousarray(errors.T))
        winner, loser = (both.pin_memory() if self._device.type == "cuda" else both).to(self._device, non_blocking=True)
        return winner, loser
