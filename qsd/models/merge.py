"""A network with the adapter merged into its weights in fp32, whatever it computes in afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from qsd.adapters.locate import find_adapter
from qsd.adapters.reading import Layers, read_adapter
from qsd.models.denoiser import load_network
from qsd.models.families import Family
from qsd.models.source import load_part


def load_merged(family: Family, path: str, adapter: Path, precision: str) -> ModelMixin:
    """The network of a pipeline folder or hub name, W + scale · B A for every adapted weight W (``LoraLayer.change``).

    The sum is taken in fp32, of the weight as its file has it, and then cast to ``precision``. Layers without an
    adapter are read in ``precision`` at once, so that there is never a whole network in fp32 on the way to one in bf16.

    Args:
        family: of the model.
        path: folder, or hub name with @revision.
        adapter: folder with an adapter of any known layout (``qsd.adapters.layouts``).
        precision: of the weights, fp32 or bf16.

    Raises:
        UserError: nothing to load there, no adapter, or one that cannot be used completely.
    """
    # The adapter is checked before the network's weights are read, which takes minutes for a large model.
    added = read_adapter(find_adapter(adapter), adaptable_layers(family, path))
    network: Any = load_network(family, path, precision, exact=loader_words(added))
    with torch.no_grad():
        for name, layer in added.items():
            layer.change(network.get_submodule(name).weight)
    return cast("ModelMixin", network.bfloat16() if precision == "bf16" else network)


def adaptable_layers(family: Family, path: str) -> Layers:
    """The linear and convolution layers of a model's network, from its ``config.json`` alone.

    Raises:
        UserError: nothing to load there, or settings of no network.
    """
    kind: Any = family.network_class()

    def without_weights(name: str, **options: Any) -> tuple[Any, dict[str, Any]]:
        config = dict(kind.load_config(name, **options))
        with torch.device("meta"):
            return kind.from_config(config), config

    network, config = load_part(without_weights, path, subfolder=family.network)
    shapes = {
        name: tuple(module.weight.shape)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    }
    return Layers(family.network, shapes, family.original_names(list(shapes), config), f"model.path {path}")


def loader_words(layers: Iterable[str]) -> list[str]:
    """The last word in the name of every layer, such as ``to_q``, and ``to_out`` of ``to_out.0``; sorted."""
    return sorted({next(word for word in reversed(layer.split(".")) if not word.isdigit()) for layer in layers})
