"""ImageReward: BLIP reads image and caption together, an MLP turns its [CLS] vector into one number.

    ψ = (MLP(BLIP(image, caption)) - 0.16717362830052426) / 1.0333394966054072

The MLP is five linear layers (768-1024-128-64-16-1) without activations; with dropout off it is one affine map, folded
on loading. Mean and deviation are the published ones: on Stable Diffusion 1.4's images about 62 % of the rewards are in
[-1, 1]. Captions are cut at 35 tokens: the tail of a long prompt counts for nothing. Input: shorter side 224 with
Pillow's bicubic filter, centre crop.

Checkpoint: ``blip.visual_encoder.…``, ``blip.text_encoder.…``, ``mlp.layers.{0,2,4,6,7}.{weight,bias}``. Left out are
``blip.vision_proj``, ``blip.text_proj`` (of BLIP's pre-training, no part of the reward) and ``….position_ids``
(a constant). ``vocab.txt`` is BERT's. Reward models of the same shape that this project trains lie in folders of their
own kind (``qsd.rewards.blip_reward``), with their own mean, deviation and length of captions.

Source: Xu et al., "ImageReward", arXiv 2304.05977; THUDM/ImageReward ``ImageReward/ImageReward.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.config.digest import digest, hash_of
from qsd.errors import UserError, reason
from qsd.rewards.pixel_scorer import PixelScorer
from qsd.rewards.preprocess import Preprocess

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor
    from transformers import BertTokenizer, CLIPTokenizer

    from qsd.rewards.blip import Blip, BlipSize
    from qsd.rewards.blip_reward import BlipFolder, BlipReward

PREPROCESS = Preprocess(size=224, crop="round")
MEAN, STD = 0.16717362830052426, 1.0333394966054072
TOKENS = 35
_UNUSED = ("blip.vision_proj.", "blip.text_proj.", "blip.text_encoder.embeddings.position_ids")


class ImageRewardScorer(PixelScorer):
    """Reward of an image for its caption, about -2 to 2. See :class:`qsd.rewards.scorer.Scorer` for the interface."""

    unit = "reward"

    def __init__(
        self,
        name: str,
        revision: str,
        blip: Blip,
        head: tuple[Tensor, Tensor],
        preprocess: Preprocess,
        tokenizer: BertTokenizer | CLIPTokenizer,
        length: int = TOKENS,
        mean: float = MEAN,
        std: float = STD,
    ) -> None:
        self.name = name
        self.revision = revision
        self.blip = blip.eval().requires_grad_(False)
        self.weight, self.bias = head
        self.preprocess = preprocess
        self.tokenizer = tokenizer
        self.length = length
        self.mean, self.std = mean, std

    def tokens(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids, int64 (N, length), and which of them are no padding, bool (N, length)."""
        encoded = self.tokenizer(
            list(captions), padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
        )
        return encoded["input_ids"], encoded["attention_mask"].bool()

    def _scores(self, pixels: Tensor, captions: Sequence[str]) -> Tensor:
        device = self.weight.device
        ids, mask = self.tokens(captions)
        vectors: Tensor = self.blip(pixels.to(device), ids.to(device), mask.to(device))
        return ((vectors * self.weight).sum(dim=-1) + self.bias - self.mean) / self.std


def open_scorer(folder: Path, device: str = "cpu", size: BlipSize | None = None) -> ImageRewardScorer:
    """Load ``ImageReward.pt`` and ``vocab.txt``.

    Args:
        folder: of the reward model.
        device: torch device.
        size: of the architecture; None is the published one.

    Raises:
        UserError: a missing or damaged file, or tensors that do not fit the architecture.
    """
    from qsd.rewards.aesthetic import fold
    from qsd.rewards.blip import Blip, BlipSize
    from qsd.rewards.checkpoint import filled, first_of, read_checkpoint
    from qsd.vocabulary import check_tokenizer_rows

    path = first_of(folder, ("ImageReward.pt",))
    tokenizer = _tokenizer(first_of(folder, ("vocab.txt",)))
    size = size or BlipSize()
    if len(tokenizer) > size.vocabulary:
        raise UserError(
            f"{folder / 'vocab.txt'}: {len(tokenizer)} tokens with BLIP's two, the model has {size.vocabulary}"
        )
    check_tokenizer_rows(tokenizer, size.vocabulary, str(folder / "vocab.txt"))
    state = read_checkpoint(path)
    unknown = sorted(name for name in state if not name.startswith(("blip.", "mlp.")))
    if unknown:
        raise UserError(f"{path}: not the published layout: {unknown[0]} is not known ({len(unknown)} unknown)")
    below = {
        name.removeprefix("blip."): tensor
        for name, tensor in state.items()
        if name.startswith("blip.") and not name.startswith(_UNUSED)
    }
    weight, bias = fold({name.removeprefix("mlp."): state[name] for name in state if name.startswith("mlp.")})
    blip = filled(lambda: Blip(size), below, path).to(device)
    if weight.shape[1] != size.text_width:
        raise UserError(f"{path}: the MLP takes {weight.shape[1]} numbers, BLIP gives {size.text_width}")
    head = (weight.to(device), bias.to(device))
    return ImageRewardScorer(folder.name, digest(folder)[:12], blip, head, PREPROCESS, tokenizer)


def open_folder(folder: Path, device: str = "cpu") -> ImageRewardScorer:
    """Load a reward model of this shape that this project has trained (``qsd.rewards.blip_reward``).

    Raises:
        UserError: a missing or damaged file, or weights that do not fit ``config.json``.
    """
    from qsd.rewards.blip_reward import read

    model, about, tokenizer = read(folder)
    revision = hash_of([digest(folder), digest((folder / about.tokenizer).resolve())])[:12]
    return trained_scorer(folder.name, revision, model.to(device), about, tokenizer)


def trained_scorer(
    name: str, revision: str, model: BlipReward, about: BlipFolder, tokenizer: CLIPTokenizer
) -> ImageRewardScorer:
    """The scorer of a model of this project, where its weights are; ends the model's training."""
    from qsd.rewards.aesthetic import fold

    weight, bias = fold(model.mlp.state_dict())
    return ImageRewardScorer(
        name, revision, model.blip, (weight, bias), about.preprocess, tokenizer, about.tokens, about.mean, about.std
    )


def _tokenizer(vocabulary: Path) -> BertTokenizer:
    """BERT's lower-casing tokenizer with BLIP's two further tokens, which ImageReward never uses."""
    from transformers import BertTokenizer

    try:
        words = vocabulary.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{vocabulary}: damaged ({reason(error)}); fetch it again") from None
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    tokenizer.add_special_tokens({"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]})
    return tokenizer
