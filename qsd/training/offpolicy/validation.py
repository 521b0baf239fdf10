"""Implicit accuracy on pairs that were not selected: does the adapter prefer the winners of pairs it never trained on?

The pairs are the first ones in the order of a hash of the pair id, so cells with other selections share most of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qsd.config.schema import ExperimentConfig, TrainingConfig
from qsd.draws import uniforms
from qsd.encoding.store import EncodedPairs
from qsd.errors import UserError
from qsd.files import read_table, texts
from qsd.losses import PairErrors
from qsd.models.denoiser import Denoiser
from qsd.models.process import DiffusionProcess
from qsd.training.offpolicy.batches import PairStream
from qsd.training.offpolicy.columns import COLUMNS, pair_sums
from qsd.training.offpolicy.denoising_errors import Errors, model_errors, reference_errors
from qsd.training.processes import Processes

SEED = 0
"""Of choice and draws: cells of every training seed are validated on the same numbers."""


def open_held_out(inputs: Mapping[str, Path], config: ExperimentConfig, process: DiffusionProcess) -> PairStream | None:
    """The pairs to validate on, if the experiment asks for any; arguments as of ``open_stream``."""
    if not config.training.validation_pairs:
        return None
    selected = texts(read_table(inputs["select"] / "selected.parquet", ["pair_id"])["pair_id"])
    return held_out(EncodedPairs(inputs["encode"]), selected, config.training, process)


def held_out(
    encoded: EncodedPairs, selected: Sequence[str], training: TrainingConfig, process: DiffusionProcess
) -> PairStream:
    """``training.validation_pairs`` encoded pairs that were not selected, one draw each, without flip and dropout.

    Raises:
        UserError: there are not so many.
    """
    pair_ids = encoded.pair_ids
    rest = sorted(set(pair_ids) - set(selected))
    wanted = training.validation_pairs
    if len(rest) < wanted:
        raise UserError(
            f"training.validation_pairs is {wanted}, but {len(rest)} of {len(pair_ids)} encoded pairs are not "
            "selected; set encode.scope: dataset, lower selection.fraction, or lower training.validation_pairs"
        )
    order = np.argsort(uniforms(rest, SEED, "validation"), kind="stable")[:wanted]
    plain = replace(training, flip=False, caption_dropout=0.0)
    return PairStream(encoded, [rest[place] for place in order], np.ones(wanted), plain, process, SEED)


class Validation:
    """Means over held-out pairs.

    Args:
        denoiser: the model in training.
        stream: the held-out pairs.
        training: micro-batch and precision.
        processes: each takes a part of the pairs.

    Attributes:
        forwarded: passes of a pair that the latest call of ``means`` made in this process.
    """

    def __init__(self, denoiser: Denoiser, stream: PairStream, training: TrainingConfig, processes: Processes) -> None:
        starts = range(0, len(stream), training.micro_batch)
        self._places = [(start, min(start + training.micro_batch, len(stream))) for start in starts]
        self._places = self._places[processes.rank :: processes.count]
        self._denoiser = denoiser
        self._stream = stream
        self._precision = training.precision
        self._processes = processes
        self._reference: list[Errors] = []
        self.forwarded = 0

    @property
    def pairs(self) -> int:
        """How many are held out."""
        return len(self._stream)

    def means(self, device: torch.device) -> Tensor:
        """``COLUMNS`` of the model as it is, [7]; NaN for the loss. The first call alone computes the reference."""
        total = torch.zeros(len(COLUMNS), device=device)
        self.forwarded = 0
        with torch.no_grad():
            for number, (start, stop) in enumerate(self._places):
                batch = self._stream.batch(start, stop, device)
                if number == len(self._reference):
                    self._reference.append(reference_errors(self._denoiser, batch, self._precision))
                    self.forwarded += stop - start
                winner, loser = model_errors(self._denoiser, batch, self._precision)
                self.forwarded += stop - start
                errors = PairErrors(winner, loser, *self._reference[number])
                total += pair_sums(torch.full_like(winner, torch.nan), errors)
        return self._processes.sum(total) / self.pairs
