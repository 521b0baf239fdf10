"""The LoRA adapter: added, switched off for the reference, saved so that the stock pipeline of its family loads it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from peft import LoraConfig as PeftConfig
from peft.tuners.lora.layer import LoraLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn

from qsd.adapters.kohya import kohya_metadata, kohya_tensors
from qsd.adapters.locate import FILE, KOHYA_FILE
from qsd.config.schema import EQUAL_STEP_RANK, LoraConfig
from qsd.errors import UserError
from qsd.files import atomic
from qsd.models.adapter_dropout import put_dropout
from qsd.models.families import Family
from qsd.models.local_checks import match_targets

NAME = "default"


def add_adapter(network: ModelMixin, lora: LoraConfig, seed: int, family: Family) -> dict[str, nn.Parameter]:
    """Add a fresh adapter (A normal, B zero: it changes nothing yet) and return its parameters by name, all fp32.

    The scale follows from ``effective_alpha``. Equal seeds give equal adapters. Dropout begins switched off
    (``dropout_switch``).

    Args:
        network: of any family; it is changed in place.
        lora: rank, scale and targets.
        seed: of the adapter's start.
        family: its usual targets are shown where a target matches nothing.

    Raises:
        UserError: a target that no layer's name ends with. peft would ignore it as long as another one matches. Or
            DoRA on a convolution whose weights are bf16.
    """
    layers = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    match_targets(list(layers), lora.targets, family)
    half = next(iter(layers.values())).weight.dtype == torch.bfloat16
    if lora.dora and half:
        _check_linear(layers, lora.targets)
    adaptable: Any = network  # diffusers gives networks their adapters by a mixin that ``ModelMixin`` does not name
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adaptable.add_adapter(peft_config(lora), adapter_name=NAME)
    for parameter in network.parameters():
        # peft gives the adapter the base layer's type; a bf16 adapter would round small updates away.
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    adapted: list[Any] = [module for module in network.modules() if isinstance(module, LoraLayer)]
    for layer in adapted:
        if lora.dora:
            _measure_rows(layer)
        elif half:
            # Under autocast peft's cast of an input to A's fp32 is undone at once: same bits, two passes over it less.
            layer.cast_input_dtype_enabled = False
    if lora.dropout:
        put_dropout(network, NAME)
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def peft_config(lora: LoraConfig) -> PeftConfig:
    """The adapter's settings for peft: A normal with standard deviation 1 / rank, B zero."""
    settings: dict[str, Any] = {
        "r": lora.rank,
        "lora_alpha": effective_alpha(lora),
        "use_rslora": lora.rslora,
        "use_dora": lora.dora,
        "lora_dropout": lora.dropout,
    }
    return PeftConfig(**settings, target_modules=list(lora.targets), init_lora_weights="gaussian")


def _measure_rows(layer: Any) -> None:
    """Measure the norms of a layer's rows, with which DoRA begins, in fp32: peft does in the type of the weights."""
    layer.lora_magnitude_vector[NAME].update_layer(
        base_layer=layer.get_base_layer(),
        lora_A=layer.lora_A[NAME].weight,
        lora_B=layer.lora_B[NAME].weight,
        scaling=layer.scaling[NAME],
    )


def _check_linear(layers: Mapping[str, nn.Module], targets: Sequence[str]) -> None:
    """Refuse DoRA on convolutions in bf16, where peft adds and measures their weights in bf16."""
    for target in targets:
        ends = [module for name, module in layers.items() if name == target or name.endswith(f".{target}")]
        if any(isinstance(module, nn.Conv2d) for module in ends):
            raise UserError(
                f"lora.targets: {target} is a convolution, and lora.dora works in bf16 on linear layers only; use "
                "training.precision: fp32, or leave it out"
            )


@contextmanager
def reference(network: Any) -> Iterator[None]:
    """The base model: adapter off inside, on again afterwards whatever happened."""
    network.disable_adapters()
    try:
        yield
    finally:
        network.enable_adapters()


def save_adapter(
    folder: Path, network: ModelMixin, lora: LoraConfig, family: Family, facts: Mapping[str, str] | None = None
) -> Path:
    """Write ``folder/pytorch_lora_weights.safetensors`` for ``load_lora_weights`` of the family's stock pipeline.

    Rank, alpha and targets are in the file's metadata, without which a loader would take alpha = rank; ``facts`` are
    put beside them. The same adapter is written once more as ``kohya.safetensors``, for programs that read no metadata;
    not with DoRA, for which these have no common rule. Each file is put in place in one step; equal adapters with equal
    facts give equal bytes.
    """
    layers = {name: tensor.cpu() for name, tensor in get_peft_model_state_dict(network, adapter_name=NAME).items()}
    metadata: dict[str, Any] = {"r": lora.rank, "lora_alpha": effective_alpha(lora)}
    metadata["target_modules"] = sorted(lora.targets)
    # Dropout is left out: a loader would go on dropping while it draws images.
    metadata |= {name: True for name, chosen in (("use_rslora", lora.rslora), ("use_dora", lora.dora)) if chosen}
    with atomic(folder / FILE) as temporary:
        family.save_adapter(folder, layers, metadata, temporary.name)
        _complete_metadata(temporary, facts or {})
    if lora.dora:
        return folder / FILE
    # kohya's programs divide by the rank whatever the rule was.
    alpha = effective_alpha(lora) * (math.sqrt(lora.rank) if lora.rslora else 1)
    with atomic(folder / KOHYA_FILE) as temporary:
        save_file(kohya_tensors(layers, alpha, family.network), temporary, {"format": "pt"})
        _complete_metadata(temporary, {**(facts or {}), **kohya_metadata(lora.rank, alpha)})
    return folder / FILE


def effective_alpha(lora: LoraConfig) -> float:
    """The alpha that the adapter gets; B·A is multiplied by alpha / rank, with ``lora.rslora`` by alpha / sqrt(rank).

    A is drawn with standard deviation 1 / rank, and one step of AdamW moves every element of B by about the learning
    rate, so with alpha = rank it moves an element of B·A in proportion to 1 / sqrt(rank). ``equal_step`` multiplies by
    sqrt(rank / 16), which takes the rank out, so that a comparison of ranks does not compare step sizes.
    """
    alpha = float(lora.rank) if lora.alpha is None else lora.alpha
    return alpha * math.sqrt(lora.rank / EQUAL_STEP_RANK) if lora.scaling == "equal_step" else alpha


def _complete_metadata(path: Path, facts: Mapping[str, str]) -> None:
    """Add facts to the file's metadata and sort it by name."""
    # safetensors writes several entries in a random order, so that equal adapters would differ in their bytes.
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted({**facts, **header["__metadata__"]}.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
