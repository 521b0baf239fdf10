"""An adapter in the layout of kohya's programs, which ComfyUI and AUTOMATIC1111's web UI read.

The layout has alpha as a tensor beside every layer, so that the scale is safe where a file's metadata gets lost: those
programs read none, and diffusers' file loads at scale 1 in them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from qsd.adapters.layouts import kohya_prefixes

_HALVES = {"lora_A": "lora_down", "lora_B": "lora_up"}


def kohya_tensors(layers: Mapping[str, Tensor], alpha: float, network: str) -> dict[str, Tensor]:
    """The tensors of an adapter under kohya's names, sorted.

    Args:
        layers: tensors by their names in the network, as peft calls them: ``….to_q.lora_A.weight``.
        alpha: of every layer; the scale is alpha / rank.
        network: the pipeline's name for the network.

    Returns:
        ``lora_unet_…_to_q.lora_down.weight``, ``….lora_up.weight`` and ``….alpha``, a number without dimensions.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in layers.items():
        layer, half, _ = name.rsplit(".", 2)
        flat = kohya_prefixes(network)[0] + layer.replace(".", "_")
        named = {f"{flat}.{_HALVES[half]}.weight": tensor.contiguous()}
        assert not named.keys() & tensors, name
        tensors |= named
        tensors[f"{flat}.alpha"] = torch.tensor(alpha, dtype=torch.float32)
    return dict(sorted(tensors.items()))


def kohya_metadata(rank: int, alpha: float) -> dict[str, str]:
    """What kohya's programs state of an adapter in a file's metadata."""
    return {"ss_network_alpha": f"{alpha:g}", "ss_network_dim": str(rank), "ss_network_module": "networks.lora"}
