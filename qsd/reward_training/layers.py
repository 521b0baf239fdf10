"""Which layers of a CLIP are trained, as HPS v2 chose them.

The last n blocks of a tower, with its last norm and its projection; embeddings and earlier blocks are frozen. The
published ``--lock-image-unlocked-groups 20`` is 19 blocks (20 groups from the end: projection; last block with
``ln_post``; 18 more blocks), ``--lock-text-unlocked-layers 11`` is 11 blocks. The logit scale is always trained: the
published locks do not touch it. Source: tgxs002/HPSv2 ``open_clip/transformer.py`` and ``model.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from open_clip.model import CLIP

from qsd.errors import UserError

_BLOCK = re.compile(r"(?:visual\.)?transformer\.resblocks\.(\d+)\.")
_LAST = ("visual.proj", "visual.ln_post.", "text_projection", "ln_final.")


def choose_layers(clip: CLIP, image_blocks: int | None, text_blocks: int | None) -> None:
    """Switch gradients on for the last blocks of either tower and off elsewhere; 0 freezes a tower, None trains it all.

    Raises:
        UserError: more blocks than the tower has, or a tower that has none, such as a ResNet.
    """
    for tower, blocks in (("image", image_blocks), ("text", text_blocks)):
        mine = {name: parameter for name, parameter in clip.named_parameters() if tower == _tower(name)}
        first = _first_block(tower, mine, blocks)
        for name, parameter in mine.items():
            block = _BLOCK.match(name)
            behind = int(block[1]) >= first if block else blocks != 0 and name.startswith(_LAST)
            parameter.requires_grad_(blocks is None or behind)
    clip.logit_scale.requires_grad_(True)


def _tower(name: str) -> str:
    return "image" if name.startswith("visual.") else "text"


def _first_block(tower: str, names: Iterable[str], blocks: int | None) -> int:
    """Number of the first trained block."""
    count = len({match[1] for name in names if (match := _BLOCK.match(name))})
    if count == 0:
        raise UserError(f"base.path: the {tower} tower has no transformer blocks; only CLIPs with a ViT are trained")
    if blocks is not None and blocks > count:
        raise UserError(f"layers.{tower}_blocks is {blocks}, but the {tower} tower has {count} blocks")
    return count - (blocks or 0)
