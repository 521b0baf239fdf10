"""Common random numbers: every draw is a pure function of what it belongs to, never of batch, order, worker or subset.

| draw | pure function of |
|---|---|
| timestep, noise, VAE posterior noise, flip, caption dropout, LoRA dropout | (pair id, draw index, seed) |
| order of the pairs in an epoch | (pair id, seed, epoch): a subset keeps the order of the full set |
| initial latents of an evaluation image | (prompt id, image index, seed) |
| noise of a sampler step, and of where a sampling begins | (prompt id, visit, step, candidate, seed) |
| one uniform number of a pair, for a named purpose | (pair id, seed, purpose) |

A name is hashed (BLAKE2b, 512 bits); disjoint parts of the hash give the scalars and the 128-bit keys of numpy's
counter-based Philox generator, which gives the normal numbers in fp32. Nothing here has state.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

_UINT53 = 2.0**-53
_PERSON = b"qsd draws"


@dataclass(frozen=True)
class PairDraws:
    """The random numbers of one use of B pairs. Winner and loser share all of them."""

    timestep_uniform: npt.NDArray[np.float64]
    """[B] in [0, 1); `timesteps` turns it into a step of the diffusion."""
    noise: npt.NDArray[np.float32]
    """[B, C, H, W] standard normal: the ε of the diffusion."""
    posterior_noise: npt.NDArray[np.float32]
    """[B, C, H, W] standard normal: z = mean + std · this. One per pair, so that swapping w and l swaps only them."""
    flip: npt.NDArray[np.bool_]
    """[B] mirror both images, true half of the time."""
    caption_uniform: npt.NDArray[np.float64]
    """[B] in [0, 1); the caption is dropped when it is below the dropout rate, so a higher rate drops a superset."""
    dropout_key: npt.NDArray[np.int64]
    """[B] any 64 bits: which inputs of an adapter are left out (``qsd.models.adapter_dropout``)."""

    def timesteps(self, count: int) -> npt.NDArray[np.int64]:
        """[B] uniform over 0 … count-1."""
        return np.minimum((self.timestep_uniform * count).astype(np.int64), count - 1)


def pair_draws(pair_ids: Sequence[str], draw_indices: Sequence[int], seed: int, shape: Sequence[int]) -> PairDraws:
    """The draws of B pairs at their draw index, for latents of `shape` (C, H, W).

    The first numbers of a field do not depend on how many follow, so nothing but `shape` decides its content.
    """
    count = len(pair_ids)
    words = np.empty((count, 8), dtype=np.uint64)
    for row, (pair_id, index) in enumerate(zip(pair_ids, draw_indices, strict=True)):
        words[row] = _words("pair", pair_id, index, seed)
    noise = np.empty((count, *shape), dtype=np.float32)
    posterior_noise = np.empty_like(noise)
    normal = _KeyedNormal()
    for row in range(count):
        normal.fill(words[row, 0:2], noise[row])
        normal.fill(words[row, 2:4], posterior_noise[row])
    return PairDraws(
        timestep_uniform=_uniform(words[:, 4]),
        noise=noise,
        posterior_noise=posterior_noise,
        flip=_uniform(words[:, 5]) < 0.5,
        caption_uniform=_uniform(words[:, 6]),
        dropout_key=words[:, 7].view(np.int64),
    )


def initial_latents(
    prompt_ids: Sequence[str], image_indices: Sequence[int], seed: int, shape: Sequence[int]
) -> npt.NDArray[np.float32]:
    """[B, C, H, W] standard normal numbers from which the image `image_index` of a prompt is generated."""
    latents = np.empty((len(prompt_ids), *shape), dtype=np.float32)
    normal = _KeyedNormal()
    for row, (prompt_id, index) in enumerate(zip(prompt_ids, image_indices, strict=True)):
        normal.fill(_words("initial latents", prompt_id, index, seed)[0:2], latents[row])
    return latents


BEGIN = -1
"""The step of the noise that a sampling begins with."""


def step_noise(
    prompt_ids: Sequence[str], visits: Sequence[int], step: int, candidate: int, seed: int, shape: Sequence[int]
) -> npt.NDArray[np.float32]:
    """[B, C, H, W] standard normal numbers: the new noise of a sampler step during training.

    Args:
        prompt_ids: of B prompts.
        visits: how often training has sampled each of them before.
        step: of the sampler, from 0; ``BEGIN`` is the noise that it begins with.
        candidate: which of several outcomes of the step.
        seed: of the training.
        shape: (C, H, W).
    """
    noise = np.empty((len(prompt_ids), *shape), dtype=np.float32)
    normal = _KeyedNormal()
    for row, (prompt_id, visit) in enumerate(zip(prompt_ids, visits, strict=True)):
        name = f"{prompt_id}\0{visit}\0{step}\0{candidate}"
        normal.fill(_words("sampler step", name, 0, seed)[0:2], noise[row])
    return noise


def epoch_order(pair_ids: Sequence[str], seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Positions of `pair_ids` in the order of this epoch.

    Pairs are sorted by a hash of (pair id, seed, epoch): cells with overlapping subsets use the shared pairs in the
    same order, and the order of the input does not matter.
    """
    keys = uniforms(pair_ids, seed, f"order of epoch {epoch}")
    return np.lexsort((np.asarray(pair_ids, dtype=np.str_), keys)).astype(np.int64)


def uniforms(ids: Sequence[str], seed: int, purpose: str) -> npt.NDArray[np.float64]:
    """[N] in [0, 1), one number per id; other purposes give independent numbers."""
    begin, end = f"{purpose}\0".encode(), f"\0{0}\0{seed}".encode()
    begun = hashlib.blake2b(begin, digest_size=8, person=_PERSON)  # copied below: half the time of ``_digest``

    def digest(name: str) -> bytes:
        one = begun.copy()
        one.update(name.encode() + end)
        return one.digest()

    digests = b"".join([digest(name) for name in ids])
    return _uniform(np.frombuffer(digests, dtype="<u8").astype(np.uint64, copy=False))


def _digest(purpose: str, name: str, index: int, seed: int, size: int) -> bytes:
    text = f"{purpose}\0{name}\0{index}\0{seed}"
    return hashlib.blake2b(text.encode(), digest_size=size, person=_PERSON).digest()


def _words(purpose: str, name: str, index: int, seed: int) -> npt.NDArray[np.uint64]:
    return np.frombuffer(_digest(purpose, name, index, seed, 64), dtype="<u8").astype(np.uint64, copy=False)


def _uniform(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    return (words >> np.uint64(11)).astype(np.float64) * _UINT53


class _KeyedNormal:
    """Fills arrays with the normal numbers of a key. One generator gets new keys, ten times cheaper than a new one."""

    def __init__(self) -> None:
        self._philox = np.random.Philox(key=0)
        self._generator = np.random.Generator(self._philox)
        self._zeros = np.zeros(4, dtype=np.uint64)

    def fill(self, key: npt.NDArray[np.uint64], out: npt.NDArray[np.float32]) -> None:
        self._philox.state = {
            "bit_generator": "Philox",
            "state": {"counter": self._zeros, "key": key},
            "buffer": self._zeros,
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }
        self._generator.standard_normal(math.prod(out.shape), dtype=np.float32, out=out.reshape(-1))
