"""BLIP with an MLP: the score in training is the MLP's output, before mean and deviation are taken out.

The published training of ImageReward freezes the first 70 % of both towers' blocks (THUDM/ImageReward
``train/src/ImageReward.py``, ``fix_rate``); the MLP is always trained, with its dropout.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor
from transformers import CLIPTokenizer

from qsd.errors import UserError
from qsd.reward_training.families import RewardFamily
from qsd.reward_training.schema import BaseConfig
from qsd.reward_training.trainable import Tokens, TrainableReward
from qsd.rewards import blip_reward
from qsd.rewards.blip_reward import BlipFolder, BlipReward
from qsd.rewards.image_reward import ImageRewardScorer, trained_scorer

_TOKENIZER = "tokenizer"
_BLOCK = re.compile(r"blip\.(?:visual_encoder\.blocks|text_encoder\.encoder\.layer)\.(\d+)\.")
_TOWERS = {"image": "blip.visual_encoder.", "text": "blip.text_encoder."}
_LAST = "blip.visual_encoder.norm."


class BlipTraining(TrainableReward):
    """A BLIP-shaped reward model in training."""

    def __init__(self, model: BlipReward, about: BlipFolder, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.model = model
        self.preprocess = about.preprocess
        self._about = replace(about, mean=0.0, std=1.0, tokenizer=_TOKENIZER)
        self._tokenizer = tokenizer

    def tokens(self, captions: Sequence[str]) -> Tokens:
        """Token ids [B, L] and which of them are no padding [B, L]."""
        encoded = self._tokenizer(
            list(captions), padding="max_length", truncation=True, max_length=self._about.tokens, return_tensors="pt"
        )
        return {"ids": encoded["input_ids"], "mask": encoded["attention_mask"].bool()}

    def forward(self, pixels: Tensor, tokens: Tokens) -> Tensor:
        """Rewards [B, K]."""
        batch, candidates = pixels.shape[:2]
        ids, mask = (tokens[name].repeat_interleave(candidates, dim=0) for name in ("ids", "mask"))
        rewards: Tensor = self.model(pixels.flatten(0, 1), ids, mask)
        return rewards.view(batch, candidates)

    def choose_layers(self, image_blocks: int | None, text_blocks: int | None) -> None:
        """Train the last blocks of either tower, with the image tower's last norm; the MLP always.

        Raises:
            UserError: a tower has fewer blocks.
        """
        self.requires_grad_(True)
        for tower, wanted in (("image", image_blocks), ("text", text_blocks)):
            mine = {name: part for name, part in self.model.named_parameters() if name.startswith(_TOWERS[tower])}
            blocks = len({match[1] for name in mine if (match := _BLOCK.match(name))})
            if wanted is None:
                continue
            if wanted > blocks:
                raise UserError(f"layers.{tower}_blocks is {wanted}, but the {tower} tower has {blocks} blocks")
            for name, parameter in mine.items():
                block = _BLOCK.match(name)
                behind = int(block[1]) >= blocks - wanted if block else wanted > 0 and name.startswith(_LAST)
                parameter.requires_grad_(behind)

    def save(self, folder: Path) -> None:
        """Write all weights and the tokenizer. The reward is stored as it is: mean 0, standard deviation 1."""
        blip_reward.save(folder, self.model, self._about)
        self._tokenizer.save_pretrained(folder / _TOKENIZER)

    def scorer(self) -> ImageRewardScorer:
        """The reward of the model as it is now."""
        return trained_scorer("in training", "", self.model, self._about, self._tokenizer)


def open_blip(config: BaseConfig) -> BlipTraining:
    """A BLIP-shaped reward model of this project's own layout.

    Raises:
        UserError: another layout, settings that are a CLIP's, or no or damaged weights.
    """
    if config.layout != "own":
        raise UserError(f"base.layout is {config.layout!r}; family blip reads folders of this project: own")
    for name in ("architecture", "resize", "antialias"):
        if getattr(config, name) is not None:
            raise UserError(f"base.{name} has no use with family blip; its folder's config.json says it")
    return BlipTraining(*blip_reward.read(Path(config.path).absolute()))


FAMILY = RewardFamily(open_blip)
