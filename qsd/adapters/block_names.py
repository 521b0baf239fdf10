"""The names of a UNet's layers in the original code of Stable Diffusion, which kohya's programs use for SDXL.

``down_blocks.1.attentions.0`` is ``input_blocks.4.1`` there: the blocks of all levels are counted through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def original_names(layers: Iterable[str], layers_per_block: int) -> dict[str, str]:
    """Name in the original code -> name in diffusers, of the layers of a UNet.

    Args:
        layers: dotted names in diffusers.
        layers_per_block: of the UNet, the same at every level.
    """
    names = list(layers)
    with_attention = {match[2] for name in names if (match := _BLOCK.match(name)) and name.startswith("up_") and
                      match[3] == "attentions"}  # fmt: skip
    return {_original(name, layers_per_block, with_attention): name for name in names}


def _original(name: str, layers_per_block: int, with_attention: set[str]) -> str:
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    if match := _MIDDLE.fullmatch(name):
        kind, number, rest = match.groups()
        place = "1" if kind == "attentions" else str(2 * int(number))
        return f"middle_block.{place}.{_RESNET.get(rest, rest)}"
    match = _BLOCK.fullmatch(name)
    if match is None:
        return name
    direction, level, kind, number, rest = match.groups()
    # One block for each resnet and one for the change of size, which is at the end of a level: up, in its last block.
    first = int(level) * (layers_per_block + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + layers_per_block + 1}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{first + layers_per_block}.{2 if level in with_attention else 1}.{rest}"
    block = f"input_blocks.{first + int(number) + 1}" if direction == "down" else f"output_blocks.{first + int(number)}"
    return f"{block}.1.{rest}" if kind == "attentions" else f"{block}.0.{_RESNET.get(rest, rest)}"
