"""Published CLIP checkpoints: HPS v2 in open_clip's layout, PickScore and OpenAI's CLIP in transformers' layout.

The architecture is not in the checkpoints, so the reward model that opens one states it (``MODEL_CFG`` below).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from qsd.config.digest import digest
from qsd.errors import UserError, reason
from qsd.rewards import bpe
from qsd.rewards.checkpoint import filled, first_of, read_checkpoint
from qsd.rewards.clip import ClipScorer, create
from qsd.rewards.clip_keys import to_open_clip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from open_clip.model import CLIP
    from torch import Tensor

    from qsd.rewards.bpe import Tokenize
    from qsd.rewards.preprocess import Preprocess

VIT_H_14: dict[str, Any] = {
    "embed_dim": 1024,
    "vision_cfg": {"image_size": 224, "layers": 32, "width": 1280, "head_width": 80, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 1024, "heads": 16, "layers": 24},
}
"""LAION's CLIP ViT-H/14, 986 million weights: below HPS v2 and PickScore."""

VIT_L_14: dict[str, Any] = {
    "embed_dim": 768,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 24, "width": 1024, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 768, "heads": 12, "layers": 12},
}
"""OpenAI's CLIP ViT-L/14, 428 million weights. Its activation is x · sigmoid(1.702 x); GELU moves its scores."""


def open_clip_layout(
    folder: Path, files: Sequence[str], model_cfg: dict[str, Any], preprocess: Preprocess, device: str = "cpu"
) -> ClipScorer:
    """A scorer from a checkpoint of open_clip: cosine, captions cut as open_clip does.

    Args:
        folder: of the reward model.
        files: names of the checkpoint; the first one that is there is read.
        model_cfg: open_clip's configuration of the architecture.
        preprocess: of the images.
        device: torch device.

    Raises:
        UserError: no such file, or tensors that do not fit the architecture.
    """
    path = first_of(folder, files)
    model = _model(model_cfg, read_checkpoint(path), path).to(device)
    return ClipScorer(folder.name, digest(folder)[:12], model, preprocess, bpe.as_open_clip)


def transformers_layout(
    folder: Path,
    model_cfg: dict[str, Any],
    preprocess: Preprocess,
    device: str = "cpu",
    unit: Literal["cosine", "logit"] = "cosine",
    tokenize: Tokenize = bpe.as_transformers,
) -> ClipScorer:
    """A scorer from a checkpoint of transformers' ``CLIPModel``.

    Args:
        folder: has ``model.safetensors`` or ``pytorch_model.bin``.
        model_cfg: open_clip's configuration of the same architecture.
        preprocess: of the images.
        device: torch device.
        unit: ``cosine``, or ``logit`` for exp(logit_scale) times it.
        tokenize: how captions become tokens.

    Raises:
        UserError: no such file, or tensors that do not fit the architecture.
    """
    path = first_of(folder, ("model.safetensors", "pytorch_model.bin"))
    state = read_checkpoint(path)
    try:
        converted = to_open_clip(state)
    except (RuntimeError, IndexError) as error:
        raise UserError(f"{path}: query, key and value do not fit together ({reason(error)})") from None
    model = _model(model_cfg, converted, path).to(device)
    return ClipScorer(folder.name, digest(folder)[:12], model, preprocess, tokenize, unit)


def _model(model_cfg: dict[str, Any], state: Mapping[str, Tensor], path: Path) -> CLIP:
    """The CLIP with the tensors of ``state``; its causal mask, which no checkpoint contains, is created."""
    import torch

    model = filled(lambda: create(model_cfg), state, path)
    length = model.context_length
    model.attn_mask = torch.full((length, length), float("-inf")).triu(1)
    left = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    assert not left, left
    return model
