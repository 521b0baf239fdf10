"""CLIP: the score in training is the logit exp(logit_scale) · cosine; the fine-tuned reward model gives the cosine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from qsd.errors import UserError
from qsd.reward_training.families import RewardFamily
from qsd.reward_training.layers import choose_layers
from qsd.reward_training.schema import BaseConfig
from qsd.reward_training.trainable import Tokens, TrainableReward
from qsd.rewards import delta
from qsd.rewards.clip import ClipScorer
from qsd.rewards.preprocess import Preprocess


class ClipReward(TrainableReward):
    """A CLIP in training.

    Args:
        base: where its weights are from.
        scorer: it, opened.
    """

    def __init__(self, base: delta.Base, scorer: ClipScorer) -> None:
        super().__init__()
        self.base = base
        self.preprocess = scorer.preprocess
        self.clip = scorer.model
        self._tokenize = scorer.tokenize

    def tokens(self, captions: Sequence[str]) -> Tokens:
        """Token ids [B, L]."""
        return {"ids": self._tokenize(captions, self.clip.context_length)}

    def forward(self, pixels: Tensor, tokens: Tokens) -> Tensor:
        """Logits [B, K]; every caption is encoded once."""
        batch, candidates = pixels.shape[:2]
        images = self.clip.encode_image(pixels.flatten(0, 1), normalize=True).view(batch, candidates, -1)
        captions = self.clip.encode_text(tokens["ids"], normalize=True)
        cosines = (images.float() * captions.float()[:, None]).sum(dim=-1)
        logits: Tensor = self.clip.logit_scale.exp() * cosines
        return logits

    def choose_layers(self, image_blocks: int | None, text_blocks: int | None) -> None:
        """See :func:`qsd.reward_training.layers.choose_layers`."""
        choose_layers(self.clip, image_blocks, text_blocks)

    def after_step(self, max_logit_scale: float | None) -> None:
        """Clamp the logit scale to at most ln ``max_logit_scale``; HPS v2 and CLIP have 100, PickScore no bound."""
        if max_logit_scale is not None:
            with torch.no_grad():
                self.clip.logit_scale.clamp_(max=math.log(max_logit_scale))

    def save(self, folder: Path) -> None:
        """Write the trained tensors alone, as fp16, and round those in memory; see :mod:`qsd.rewards.delta`."""
        trained = {name.removeprefix("clip."): parameter for name, parameter in self.trained().items()}
        with torch.no_grad():
            for parameter in trained.values():
                parameter.copy_(parameter.half())
        delta.save(folder, self.base, self.preprocess, trained)

    def scorer(self) -> ClipScorer:
        """The cosine of the CLIP as it is now."""
        return ClipScorer("in training", "", self.clip, self.preprocess, self._tokenize)


def open_clip(config: BaseConfig) -> ClipReward:
    """A CLIP of this project's own layout, or a published checkpoint.

    Raises:
        UserError: no or damaged weights, or a published checkpoint without architecture.
    """
    path = Path(config.path).absolute()
    if config.layout != "own" and config.architecture is None:
        raise UserError(f"base.layout {config.layout!r} needs base.architecture: the checkpoint does not say it")
    if config.layout == "open_clip" and not path.is_file():
        raise UserError(f"{path}: base.path must be the checkpoint's file with base.layout open_clip")
    folder, file = (path.parent, path.name) if path.is_file() else (path, None)
    base = delta.Base(folder.name, config.layout, file, config.architecture)
    scorer = base.open(folder.parent)
    settings = vars(scorer.preprocess)
    changed = {name: value for name in ("resize", "antialias") if (value := getattr(config, name)) is not None}
    scorer.preprocess = Preprocess(**{**settings, **changed})
    scorer.model.requires_grad_(True)
    return ClipReward(base, scorer)


FAMILY = RewardFamily(open_clip)
