"""The stream of pairs: which pairs a step trains on, and with which random numbers.

Position p of the stream is pair ``order(epoch)[p mod N]`` of epoch ``p div N``; under a curriculum the first epochs
hold the first pairs of the ranking only (``qsd.selection.curriculum``). The draw index of a pair is the epoch, so its
noise depends on (pair id, epoch, seed) alone, and a resumed run needs nothing but the step to continue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from qsd.config.schema import ExperimentConfig, TrainingConfig
from qsd.draws import epoch_order, pair_draws
from qsd.encoding.store import EMPTY_CAPTION_ROW, EncodedPairs
from qsd.errors import UserError
from qsd.files import read_table, texts
from qsd.models.process import DiffusionProcess
from qsd.selection.curriculum import Epochs
from qsd.training.offpolicy.budget import steps_of
from qsd.training.offpolicy.folds import folds_of
from qsd.training.offpolicy.noise_levels import noise_levels


@dataclass(frozen=True)
class PairBatch:
    """B pairs. Everything per image is [2B, ...], winners first, then losers of the same pairs in the same order."""

    pair_ids: list[str]
    latents: Tensor
    """[2B, C, h, w] drawn from the VAE's posterior."""
    noise: Tensor
    """[2B, C, h, w]; the same for both images of a pair."""
    timesteps: Tensor
    """[2B] in the process's unit and type; the same for both images of a pair."""
    conditioning: dict[str, Tensor]
    """[2B, ...] by field; the same for both images of a pair."""
    weights: Tensor
    """[B] fp32, mean 1 over all pairs of the training set."""
    dropout_keys: Tensor
    """[B] int64: which inputs of the adapter are left out, for both images of a pair."""

    @classmethod
    def gather(cls, pairs: Sequence[tuple[PairBatch, int]]) -> PairBatch:
        """A batch of some pairs of other batches, given as (batch, place in it)."""
        batches = [batch for batch, _ in pairs]

        def rows(tensors: Sequence[Tensor]) -> Tensor:
            """The winners' rows of each pair's tensor, then the losers'."""
            winners = [tensor[place] for tensor, (_, place) in zip(tensors, pairs, strict=True)]
            losers = [tensor[place + len(tensor) // 2] for tensor, (_, place) in zip(tensors, pairs, strict=True)]
            return torch.stack(winners + losers)

        return cls(
            pair_ids=[batch.pair_ids[place] for batch, place in pairs],
            latents=rows([batch.latents for batch in batches]),
            noise=rows([batch.noise for batch in batches]),
            timesteps=rows([batch.timesteps for batch in batches]),
            conditioning={
                field: rows([batch.conditioning[field] for batch in batches]) for field in batches[0].conditioning
            },
            weights=torch.stack([batch.weights[place] for batch, place in pairs]),
            dropout_keys=torch.stack([batch.dropout_keys[place] for batch, place in pairs]),
        )


class PairStream:
    """An endless, randomly accessible stream of training pairs.

    Args:
        encoded: latents and text embeddings.
        pair_ids: the selected pairs; those without an encoding are left out and counted in ``missing``.
        weights: one per selected pair, > 0; normalised to mean 1 over the pairs that are used.
        training: the recipe (flip, caption dropout and the law of the noise).
        process: the diffusion process, which makes times of noise levels.
        seed: of order and draws.
        flipped: the selected pairs whose winner and loser change places; none by default. They keep their draws.
        opens: ascending shares of the training from which on the selected pairs take part; by default all do at once.
        strata: draw k of a pair has its timestep in part k of so many equal parts of the law of the noise; from draw
            ``strata`` on in the first one again. One part leaves the draws as they are.

    Raises:
        UserError: no pair is left, or a weight is not positive and finite.
    """

    def __init__(
        self,
        encoded: EncodedPairs,
        pair_ids: Sequence[str],
        weights: npt.NDArray[np.float64],
        training: TrainingConfig,
        process: DiffusionProcess,
        seed: int,
        flipped: npt.NDArray[np.bool_] | None = None,
        opens: npt.NDArray[np.float64] | None = None,
        strata: int = 1,
    ) -> None:
        usable, rows = encoded.find(pair_ids)
        self.flipped: npt.NDArray[np.bool_] = (
            np.zeros(len(rows.winner), dtype=bool) if flipped is None else flipped[usable]
        )
        """[N] which of the pairs in use have a flipped label."""
        self._rows = rows.swapped(self.flipped)
        self.pair_ids: list[str] = [pair_id for pair_id, is_usable in zip(pair_ids, usable, strict=True) if is_usable]
        self.missing = len(pair_ids) - len(self.pair_ids)
        if not self.pair_ids:
            raise UserError(f"none of the {len(pair_ids)} selected pairs is encoded; raise selection.fraction")
        used = weights[usable]
        if not (np.isfinite(used).all() and (used > 0).all()):
            worst = self.pair_ids[int(np.flatnonzero(~(np.isfinite(used) & (used > 0)))[0])]
            raise UserError(f"selected.parquet: the weight of pair {worst} is not a positive number")
        self._weights = (used / used.mean()).astype(np.float32)
        self._encoded = encoded
        self._training = training
        self._process = process
        self._seed = seed
        self._strata = strata
        self._epochs = Epochs(
            np.zeros(len(self)) if opens is None else opens[usable],
            steps_of(training, len(self)) * training.pairs_per_step,
        )
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        """Pairs of one epoch, once all are in."""
        return len(self.pair_ids)

    def batch(self, start: int, stop: int, device: torch.device) -> PairBatch:
        """The pairs at positions ``start`` to ``stop - 1``."""
        places, epochs = self._places(start, stop)
        pair_ids = [self.pair_ids[place] for place in places]
        draws = pair_draws(pair_ids, epochs, self._seed, self._encoded.latent_shape)
        mirrored = draws.flip & self._training.flip
        mean, std = self._encoded.posterior(
            np.concatenate([self._rows.winner[places], self._rows.loser[places]]), np.tile(mirrored, 2)
        )
        strata = np.array(epochs) % self._strata
        uniform = (strata + draws.timestep_uniform) / self._strata
        dropped = draws.caption_uniform < self._training.caption_dropout
        captions = np.where(dropped, EMPTY_CAPTION_ROW, self._rows.caption[places])

        def twice(array: npt.NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(np.concatenate([array, array])).to(device)

        posterior_noise = np.concatenate([draws.posterior_noise, draws.posterior_noise])
        return PairBatch(
            pair_ids=pair_ids,
            latents=torch.from_numpy(mean + std * posterior_noise).to(device),
            noise=twice(draws.noise),
            timesteps=twice(self._process.times(noise_levels(uniform, self._training))),
            conditioning={name: twice(array) for name, array in self._encoded.conditioning(captions).items()},
            weights=torch.from_numpy(self._weights[places]).to(device),
            dropout_keys=torch.from_numpy(draws.dropout_key.copy()).to(device),
        )

    def _places(self, start: int, stop: int) -> tuple[npt.NDArray[np.int64], list[int]]:
        """Which pair (by its place in ``pair_ids``) is at each position, and in which epoch."""
        places, epochs = [], []
        for position in range(start, stop):
            epoch, offset, pool = self._epochs.locate(position)
            if self._order[0] != epoch:
                self._order = (epoch, epoch_order(self.pair_ids[:pool], self._seed, epoch))
            places.append(int(self._order[1][offset]))
            epochs.append(epoch)
        return np.array(places, dtype=np.int64), epochs


def open_stream(inputs: Mapping[str, Path], config: ExperimentConfig, process: DiffusionProcess) -> PairStream:
    """The selected pairs of a training, with their weights, without those of ``training.held_out_fold``.

    Args:
        inputs: folders of the stages select and encode.
        config: section training, and the seed.
        process: the diffusion process of the model.

    Raises:
        UserError: as ``PairStream``, or all of the selected pairs are in the fold, or none.
    """
    selected = selected_pairs(inputs["select"])
    fold = config.training.held_out_fold
    if fold is not None:
        outside = folds_of(texts(selected["pair_id"])) != fold
        if outside.all() or not outside.any():
            which = "none" if outside.all() else "all"
            raise UserError(
                f"training.held_out_fold is {fold}, and {which} of the {len(outside)} selected pairs are in this fold; "
                "raise selection.fraction, or leave it out"
            )
        selected = selected.filter(pa.array(outside))
    return PairStream(
        EncodedPairs(inputs["encode"]),
        texts(selected["pair_id"]),
        selected["weight"].to_numpy(),
        config.training,
        process,
        config.seed,
        selected["flipped"].to_numpy() if "flipped" in selected.column_names else None,
        selected["opens"].to_numpy() if "opens" in selected.column_names else None,
    )


def selected_pairs(select: Path) -> pa.Table:
    """``selected.parquet`` of a select stage."""
    return read_table(select / "selected.parquet")
