"""A run of a scorer: all that decides the score of an image and a caption, down to its last bit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch

from qsd.config.digest import canonical_json, hash_of
from qsd.config.schema import RewardConfig
from qsd.rewards.clip import ClipScorer
from qsd.rewards.listing import preprocess_of, unit_of
from qsd.rewards.preprocess import Preprocess
from qsd.rewards.revision import revision

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from qsd.rewards.scorer import Scorer

LIBRARIES = ("numpy", "open_clip_torch", "pillow", "tokenizers", "torch", "transformers")
"""The libraries that take part in computing a score from an image file and a caption."""


@dataclass(frozen=True)
class ScorerRun:
    """One column of scores, by one reward model.

    Attributes:
        name, unit: as in the registry.
        revision: digest of its weights.
        weights: folder with one folder per reward model; where it lies changes no score.
        preprocess: how images become pixels.
        precision: of the forward pass: fp32, tf32 or bf16.
        batch_size: images per forward pass; another one changes the last bits of a score.
    """

    name: str
    unit: str
    revision: str
    weights: str
    preprocess: Preprocess
    precision: str
    batch_size: int

    @property
    def folder(self) -> str:
        """A folder's name that only columns of equal bits share."""
        about = hash_of({"preprocess": self.preprocessing, "versions": versions()})[:8]
        return f"{self.name}-{self.revision}-{self.precision}-{self.batch_size}-{about}"

    @property
    def preprocessing(self) -> str:
        """How images become pixels, as JSON."""
        return canonical_json(asdict(self.preprocess))

    def values(self, scorer: Scorer, pixels: Sequence[Tensor], captions: Sequence[str]) -> NDArray[np.float32]:
        """What the model gives for N images: scores [N]. ``pixels`` (3, S, S) each are those of ``preprocess``."""
        return scorer.score(pixels, captions)


@dataclass(frozen=True)
class EmbedderRun(ScorerRun):
    """One column of embeddings: the vectors of a reward model's image tower, in place of its scores."""

    @property
    def folder(self) -> str:
        """As of scores, and apart from these."""
        return f"embedding-{super().folder}"

    def values(self, scorer: Scorer, pixels: Sequence[Tensor], captions: Sequence[str]) -> NDArray[np.float32]:
        """Vectors [N, D] of length 1; the captions have no part in them."""
        assert isinstance(scorer, ClipScorer), "planning refuses an embedder that is none (qsd.rewards.embedders)"
        with torch.inference_mode():
            vectors: NDArray[np.float32] = scorer.embed_pixels(torch.stack(list(pixels))).cpu().numpy()
        return vectors


def column_of(name: str, reward: RewardConfig) -> ScorerRun:
    """The column of the reward model ``name``; opens no model.

    Raises:
        UserError: an unknown name, or missing or damaged weights.
    """
    return ScorerRun(
        name=name,
        unit=unit_of(name, reward.weights),
        revision=revision(name, reward.weights),
        weights=reward.weights,
        preprocess=preprocess_of(name, reward.weights),
        precision=reward.precision,
        batch_size=reward.batch_size,
    )


@cache
def versions() -> str:
    """Versions of the libraries that take part in a score, as JSON; that of PyTorch names its build, too."""
    return canonical_json({name: version(name) for name in LIBRARIES} | {"torch": str(torch.__version__)})
