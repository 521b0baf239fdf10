"""One random adapter in every layout, written by hand or by the libraries that define the layout."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

RANK, ALPHA = 3, 5.0
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "conv1", "proj_in", "time_emb_proj")
Halves = dict[str, tuple["Tensor", "Tensor"]]
"""Layer -> A and B."""


def random_halves(network: nn.Module, targets: tuple[str, ...] = TARGETS, seed: int = 3) -> Halves:
    """A and B for every layer whose name ends with a target."""
    generator = torch.Generator().manual_seed(seed)
    halves: Halves = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and any(name.endswith(f".{target}") for target in targets):
            weight = module.weight.shape
            down = torch.randn(RANK, *weight[1:], generator=generator) * 0.2
            up = torch.randn(weight[0], RANK, *(1 for _ in weight[2:]), generator=generator) * 0.2
            halves[name] = (down, up)
    return halves


def expected(network: nn.Module, halves: Halves, scale: float = ALPHA / RANK) -> dict[str, Tensor]:
    """The weights with the adapter, by the definition: an output channel is a sum over the ranks."""
    state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    for name, (down, up) in halves.items():
        state[f"{name}.weight"] += scale * torch.einsum("or,r...->o...", up.flatten(1), down)
    return state


def diffusers(halves: Halves) -> tuple[dict[str, Tensor], dict[str, str]]:
    """diffusers' present layout, with the scale in the metadata."""
    tensors = {}
    for name, (down, up) in halves.items():
        tensors |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
    settings = {"unet.r": RANK, "unet.lora_alpha": ALPHA, "unet.target_modules": list(TARGETS)}
    return tensors, {"lora_adapter_metadata": json.dumps(settings)}


def with_alphas(halves: Halves, name_of: Any, down: str, up: str) -> dict[str, Tensor]:
    """Any of the layouts with a tensor ``.alpha`` beside every layer."""
    tensors = {}
    for name, (first, second) in halves.items():
        flat = name_of(name)
        tensors |= {f"{flat}.{down}.weight": first, f"{flat}.{up}.weight": second}
        tensors[f"{flat}.alpha"] = torch.tensor(ALPHA)
    return tensors


def kohya(halves: Halves, names: Mapping[str, str] | None = None) -> dict[str, Tensor]:
    """kohya's layout; ``names`` are the layers' names in another code."""

    def flat(name: str) -> str:
        return "lora_unet_" + (names or {}).get(name, name).replace(".", "_")

    return with_alphas(halves, flat, "lora_down", "lora_up")


def write(
    folder: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, name: str = ""
) -> Path:
    """An adapter's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = {key: tensor.contiguous().clone() for key, tensor in tensors.items()}
    save_file(stored, folder / (name or "pytorch_lora_weights.safetensors"), dict(metadata or {}))
    return folder
