"""One column of scores: all that decides what a reward model says of an image and a caption, down to the bits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from qsd.config.digest import canonical_json, hash_of

if TYPE_CHECKING:
    from qsd.config.schema import RewardConfig
    from qsd.rewards.preprocess import Preprocess

LIBRARIES = ("numpy", "open_clip_torch", "pillow", "tokenizers", "torch", "transformers")
"""What takes part between a file and its score."""


@dataclass(frozen=True)
class ScorerRun:
    """Scores of one reward model.

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


def column_of(name: str, reward: RewardConfig) -> ScorerRun:
    """The column of the reward model ``name``; opens no model.

    Raises:
        UserError: an unknown name, or missing or damaged weights.
    """
    from qsd.rewards.listing import preprocess_of
    from qsd.rewards.revision import revision
    from qsd.rewards.scorers import REGISTRY

    found = revision(name, reward.weights)
    preprocess = preprocess_of(name, reward.weights)
    unit = REGISTRY.get(name).unit
    return ScorerRun(name, unit, found, reward.weights, preprocess, reward.precision, reward.batch_size)


@cache
def versions() -> str:
    """Versions of the libraries that take part in a score, as JSON; PyTorch's tells the build, too."""
    from importlib.metadata import version

    import torch

    found: dict[str, Any] = {name: version(name) for name in LIBRARIES} | {"torch": str(torch.__version__)}
    return canonical_json(found)
