"""CLIP-shaped scorers: ψ(image, caption) = cosine of the two embeddings, or exp(logit_scale) times it.

One architecture family (open_clip's CLIP, ViT or ResNet image tower), and one folder layout for those that this
project trains (``qsd.rewards.clip_published`` reads the published ones)::

    config.json        {"model_cfg": {...}, "preprocess": {...}, "context_length": 20}
    model.safetensors  weights, fp16 or fp32; loaded as fp32
    tokenizer/         a transformers CLIPTokenizer

``model_cfg`` is the open_clip model configuration (embed_dim, vision_cfg, text_cfg, quick_gelu). A vocabulary cut
from CLIP's must keep the byte tokens, so that no caption contains an unknown token: CLIP's unknown token *is* its end
token, and the text tower reads the caption's embedding off the first end token.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from qsd.config.digest import digest
from qsd.errors import UserError, reason
from qsd.rewards.bpe import tokenize_with
from qsd.rewards.folder import load_weights, open_tokenizer, read_config, save_weights
from qsd.rewards.pixel_scorer import PixelScorer
from qsd.rewards.preprocess import Preprocess

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from open_clip.model import CLIP
    from torch import Tensor
    from transformers import CLIPTokenizer

    from qsd.rewards.bpe import Tokenize

_FROM_THE_HUB = ("hf_", "timm_")
"""How fields of open_clip's configurations begin that name a network of another library."""


def create(model_cfg: dict[str, Any], seed: int = 0) -> CLIP:
    """A randomly initialised open_clip CLIP; the same ``model_cfg`` and ``seed`` give the same weights.

    Raises:
        UserError: a field that open_clip does not know, one that is missing, one for which it would ask the hub, or a
            value that makes no network.
    """
    _check_offline(model_cfg)
    import torch
    from open_clip.model import CLIP

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return CLIP(**model_cfg)
        except MemoryError:
            raise
        except Exception as error:  # open_clip trusts the values, and fails in as many ways as they can be wrong
            raise UserError(f"model_cfg is not an open_clip model configuration: {reason(error)}") from None


def _check_offline(model_cfg: Any) -> None:
    """Refuse towers that open_clip would fetch: another revision there would be another reward model.

    Raises:
        UserError: with the name of the field.
    """
    towers = model_cfg if isinstance(model_cfg, dict) else {}
    for tower, settings in towers.items():
        fields = settings if isinstance(settings, dict) else {tower: settings}
        for field, value in fields.items():
            if field.startswith(_FROM_THE_HUB) and value:
                place = "model_cfg" if fields is not settings else f"model_cfg.{tower}"
                raise UserError(f"{place}.{field} is {value!r}: its network would come from the hub")


def save(
    folder: Path,
    model: CLIP,
    model_cfg: dict[str, Any],
    preprocess: Preprocess,
    tokenizer: CLIPTokenizer,
    half: bool = True,
) -> None:
    """Write a scorer's folder; ``half`` stores the weights as fp16. Same weights, same bytes.

    Raises:
        UserError: tokenizer and text tower do not fit together (see :func:`check_tokenizer`).
    """
    check_tokenizer(tokenizer, model_cfg)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_cfg": model_cfg,
        "preprocess": vars(preprocess),
        "context_length": model_cfg["text_cfg"].get("context_length", 77),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(folder / "tokenizer")
    save_weights(folder / "model.safetensors", model.state_dict(), half)


def check_tokenizer(tokenizer: CLIPTokenizer, model_cfg: dict[str, Any]) -> None:
    """Refuse a tokenizer that lacks bytes, overflows the embedding, or whose end token the text tower would not find.

    With ``pool_type`` ``eos`` the text tower looks for ``eos_id``; with ``argmax`` (open_clip's default, made for the
    full vocabulary) for the highest id, which only is the end token when that token comes last.
    """
    text = model_cfg["text_cfg"]
    vocabulary = text.get("vocab_size", 49408)
    if len(tokenizer) > vocabulary:
        raise UserError(f"the tokenizer has {len(tokenizer)} tokens, text_cfg.vocab_size is {vocabulary}")
    known = tokenizer.get_vocab()
    single = sum(len(token) == 1 for token in known), sum(len(token) == 5 and token.endswith("</w>") for token in known)
    if single != (256, 256):
        raise UserError(f"the tokenizer has {single[0]} + {single[1]} byte tokens of 256 + 256; keep all when cutting")
    end, pool = tokenizer.eos_token_id, text.get("pool_type", "argmax")
    if pool == "argmax" and end != len(tokenizer) - 1:
        raise UserError(
            f"text_cfg.pool_type 'argmax' needs the end token to have the highest id, but it is {end} of "
            f"{len(tokenizer)}; set pool_type: eos and eos_id: {end}"
        )
    if pool == "eos" and text.get("eos_id", 2) != end:
        raise UserError(f"text_cfg.eos_id is {text.get('eos_id', 2)}, the tokenizer's end token is {end}")


class ClipScorer(PixelScorer):
    """Scorer on a CLIP. See :class:`qsd.rewards.scorer.Scorer` for the interface.

    ``unit`` is ``cosine``, in [-1, 1], or ``logit``: the cosine times exp(logit_scale), about 100 in published models.
    """

    def __init__(
        self,
        name: str,
        revision: str,
        model: CLIP,
        preprocess: Preprocess,
        tokenize: Tokenize,
        unit: Literal["cosine", "logit"] = "cosine",
    ) -> None:
        self.name = name
        self.revision = revision
        self.model = model.eval().requires_grad_(False)
        self.preprocess = preprocess
        self.tokenize = tokenize
        self.unit: str = unit

    @property
    def embedding_width(self) -> int:
        """D, the length of the embeddings."""
        return int(self.model.visual.output_dim)

    def embed_pixels(self, pixels: Tensor) -> Tensor:
        """Preprocessed pixels (N, 3, S, S) -> fp32 unit vectors (N, D)."""
        from torch.nn.functional import normalize

        vectors: Tensor = self.model.encode_image(pixels.to(self.model.logit_scale.device))
        return normalize(vectors.float(), dim=-1)

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Captions -> fp32 unit vectors (N, D); equal captions are encoded once, longer ones are cut at the context."""
        from torch.nn.functional import normalize

        unique = list(dict.fromkeys(captions))
        place = {caption: index for index, caption in enumerate(unique)}
        tokens = self.tokens(unique).to(self.model.logit_scale.device)
        vectors: Tensor = normalize(self.model.encode_text(tokens).float(), dim=-1)
        return vectors[[place[caption] for caption in captions]]

    def tokens(self, captions: Sequence[str]) -> Tensor:
        """Token ids, int64 (N, context length)."""
        return self.tokenize(captions, self.model.context_length)

    def _scores(self, pixels: Tensor, captions: Sequence[str]) -> Tensor:
        cosines = (self.embed_pixels(pixels) * self.embed_captions(captions)).sum(dim=-1)
        return cosines * self.model.logit_scale.exp() if self.unit == "logit" else cosines


def open_scorer(folder: Path, device: str = "cpu") -> ClipScorer:
    """Load a scorer's folder.

    Raises:
        UserError: a missing or damaged file, or weights that do not fit ``model_cfg``.
    """
    config = read_config(folder, ("model_cfg", "preprocess"))
    model = create(config["model_cfg"])
    load_weights(folder / "model.safetensors", model)
    tokenizer = open_tokenizer(folder / "tokenizer")
    check_tokenizer(tokenizer, config["model_cfg"])
    preprocess = Preprocess.from_config(config["preprocess"])
    return ClipScorer(folder.name, digest(folder)[:12], model.to(device), preprocess, tokenize_with(tokenizer))
