"""What training knows of a reward model: candidates and their caption in, one number per candidate out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from qsd.rewards.preprocess import Preprocess
from qsd.rewards.scorer import Scorer

Tokens = dict[str, Tensor]
"""What a model reads of B captions, each [B, ...], by the model's own names."""


class TrainableReward(nn.Module, ABC):
    """A reward model in training. All its weights are fp32; a family (``qsd.reward_training.families``) opens it.

    What ``forward`` gives is what the loss takes: for CLIP the logit exp(logit_scale) · cosine, for a model with a head
    the reward itself.

    Attributes:
        preprocess: of the images.
    """

    preprocess: Preprocess

    @abstractmethod
    def tokens(self, captions: Sequence[str]) -> Tokens:
        """B captions as the model reads them, on the CPU."""

    @abstractmethod
    def forward(self, pixels: Tensor, tokens: Tokens) -> Tensor:
        """Scores [B, K] of K candidates, preprocessed pixels [B, K, 3, S, S], for each of B captions."""

    @abstractmethod
    def choose_layers(self, image_blocks: int | None, text_blocks: int | None) -> None:
        """Leave gradients on for the last blocks of either tower: 0 freezes a tower, None trains all of it.

        Raises:
            UserError: the model has fewer blocks.
        """

    def after_step(self, max_logit_scale: float | None) -> None:
        """Called after each optimiser step, to bound the factor of the cosine where there is one."""
        return

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the reward model's folder: the same weights give the same bytes.

        What is stored with fewer digits is rounded in memory too, so that :meth:`scorer` scores as the folder will.
        """

    @abstractmethod
    def scorer(self) -> Scorer:
        """The reward model for scoring with its present weights; ends the training of this object."""

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters with gradients, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}
