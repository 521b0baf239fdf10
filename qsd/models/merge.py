"""A network with the adapter merged into its weights in fp32, whatever it computes in afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from diffusers.models.modeling_utils import ModelMixin
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import safe_open

from qsd.errors import UserError
from qsd.models.adapter import FILE
from qsd.models.denoiser import load_network
from qsd.models.families import Family


def load_merged(family: Family, path: str, adapter: Path, precision: str) -> ModelMixin:
    """The network of a pipeline folder or hub name, W + alpha / rank · B A for every adapted weight W.

    The sum is taken in fp32, of the weight as its file has it, and then cast to ``precision``. Layers without an
    adapter are read in ``precision`` at once, so that there is never a whole network in fp32 on the way to one in bf16.

    Args:
        family: of the model.
        path: folder, or hub name with @revision.
        adapter: folder with ``pytorch_lora_weights.safetensors``.
        precision: of the weights, fp32 or bf16.

    Raises:
        UserError: nothing to load there, or an adapter for other layers than the network has.
    """
    layers = adapted_layers(adapter)
    network: Any = load_network(family, path, precision, exact=loader_words(layers))
    network.load_lora_adapter(adapter, weight_name=FILE, prefix=family.network)
    # diffusers only warns of tensors that fit nowhere, and would draw the images of a half-applied adapter.
    applied = {name for name, module in network.named_modules() if isinstance(module, BaseTunerLayer)}
    unused = sorted(layers - {f"{family.network}.{name}" for name in applied})
    if unused:
        raise UserError(f"{adapter / FILE}: {len(unused)} layers are not of model.path {path}, such as {unused[0]}")
    network.fuse_lora()
    network.unload_lora()
    return cast("ModelMixin", network.bfloat16() if precision == "bf16" else network)


def adapted_layers(adapter: Path) -> set[str]:
    """The dotted names of the layers in an adapter's file, each beginning with the family's name of the network."""
    with safe_open(adapter / FILE, framework="pt") as stored:
        return {name.split(".lora_")[0] for name in stored.keys()}  # noqa: SIM118


def loader_words(layers: set[str]) -> list[str]:
    """The last word in the name of every layer, such as ``to_q``, and ``to_out`` of ``to_out.0``; sorted."""
    return sorted({next(word for word in reversed(layer.split(".")) if not word.isdigit()) for layer in layers})
