"""LAION-style aesthetic scorers: an affine map of the L2-normalised CLIP image embedding; the caption is ignored.

The published head (768-1024-128-64-16-1) has no activations and its dropout is off at inference, so any such chain of
linear layers is one affine map: it is folded on loading. Source: christophschuhmann/improved-aesthetic-predictor
``simple_inference.py``. Unnormalised embeddings would give 20 to 30 instead of 1 to 10.

Folder::

    config.json         {"clip": "../clip_emoji"}   the CLIP below it, relative to this folder
    head.safetensors    weight (1, D) and bias (1,), or layers.<n>.weight and layers.<n>.bias of a chain
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from qsd.config.digest import digest, hash_of
from qsd.errors import UserError
from qsd.rewards import clip
from qsd.rewards.checkpoint import read_checkpoint
from qsd.rewards.folder import read_config, save_weights
from qsd.rewards.pixel_scorer import PixelScorer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

_LAYER = re.compile(r"layers\.(\d+)\.weight")
PUBLISHED = (0, 2, 4, 6, 7)
"""The published head's linear layers by their number; between them is dropout alone. The same repository has a variant
with ReLU between its layers, numbered otherwise, which is no affine map."""


def fold(state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """A chain of linear layers as one: (weight (1, D), bias (1,)), fp32, multiplied out in fp64.

    Raises:
        UserError: no linear layers, others than the published ones, shapes that do not chain, or an output that is not
            one number.
    """
    import torch

    numbers = sorted(int(match[1]) for name in state if (match := _LAYER.fullmatch(name)))
    if numbers and tuple(numbers) != PUBLISHED:
        raise UserError(
            f"aesthetic head: its linear layers are number {', '.join(map(str, numbers))}, those of the published head "
            f"{', '.join(map(str, PUBLISHED))}; with activations between them it is no affine map, and not supported"
        )
    prefixes = [f"layers.{number}." for number in numbers] or [""]
    try:
        weight, bias = (state[f"{prefixes[0]}{part}"].double() for part in ("weight", "bias"))
        for prefix in prefixes[1:]:
            layer = state[f"{prefix}weight"].double()
            weight, bias = layer @ weight, layer @ bias + state[f"{prefix}bias"].double()
    except KeyError as error:
        raise UserError(f"aesthetic head: tensor {error} is missing") from None
    except RuntimeError:
        shapes = [tuple(state[f"{prefix}weight"].shape) for prefix in prefixes]
        raise UserError(f"aesthetic head: layers of shapes {shapes} do not chain") from None
    if weight.shape[0] != 1:
        raise UserError(f"aesthetic head: the last layer gives {weight.shape[0]} numbers instead of one")
    return weight.to(torch.float32), bias.to(torch.float32)


def save(folder: Path, head: Mapping[str, Tensor], clip_folder: str, half: bool = False) -> None:
    """Write an aesthetic head; ``clip_folder`` is relative to ``folder``."""
    fold(head)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"clip": clip_folder}, indent=2) + "\n", encoding="utf-8")
    save_weights(folder / "head.safetensors", head, half)


class AestheticScorer(PixelScorer):
    """Affine head on a CLIP's image embedding; captions are ignored. See :class:`qsd.rewards.scorer.Scorer`."""

    unit = "aesthetic"

    def __init__(self, name: str, revision: str, below: clip.ClipScorer, weight: Tensor, bias: Tensor) -> None:
        self.name = name
        self.revision = revision
        self.clip = below
        self.weight = weight
        self.bias = bias
        self.preprocess = below.preprocess

    def _scores(self, pixels: Tensor, captions: Sequence[str]) -> Tensor:
        return (self.clip.embed_pixels(pixels) * self.weight).sum(dim=-1) + self.bias


def open_scorer(folder: Path, device: str = "cpu") -> AestheticScorer:
    """Load an aesthetic head and the CLIP below it.

    Raises:
        UserError: a missing or damaged file, or a head that does not fit the CLIP's embedding.
    """
    clip_folder = folder / read_config(folder, ("clip",))["clip"]
    return on_clip(clip.open_scorer(clip_folder, device), clip_folder, folder / "head.safetensors")


def on_clip(below: clip.ClipScorer, clip_folder: Path, head: Path) -> AestheticScorer:
    """The scorer with the head in the file ``head`` on the CLIP ``below``, which was read from ``clip_folder``.

    Raises:
        UserError: a missing or damaged file, or a head that does not fit the CLIP's embedding.
    """
    folder = head.parent
    weight, bias = fold(read_checkpoint(head))
    width = below.embedding_width
    if weight.shape[1] != width:
        raise UserError(f"{head}: the head takes {weight.shape[1]} numbers, {clip_folder} gives {width}")
    revision = hash_of([digest(folder), digest(clip_folder.resolve())])[:12]
    device = below.model.logit_scale.device
    return AestheticScorer(folder.name, revision, below, weight.to(device), bias.to(device))
