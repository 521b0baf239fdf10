"""The LoRA adapter: added, switched off for the reference, saved so that a stock diffusers pipeline loads it."""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qsd.config.schema import EQUAL_STEP_RANK
from qsd.errors import UserError
from qsd.files import atomic
from qsd.registry import suggest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from peft import LoraConfig as PeftConfig
    from torch import nn

    from qsd.config.schema import LoraConfig

NAME = "default"
FILE = "pytorch_lora_weights.safetensors"


def add_adapter(unet: UNet2DConditionModel, lora: LoraConfig, seed: int) -> dict[str, nn.Parameter]:
    """Add a fresh adapter (A normal, B zero: it changes nothing yet) and return its parameters by name, all fp32.

    The scale is alpha / rank (``effective_alpha``). Equal seeds give equal adapters.

    Raises:
        UserError: a target that no layer's name ends with.
    """
    import torch

    _check_targets(unet, lora.targets)
    config = peft_config(lora)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet.add_adapter(config, adapter_name=NAME)
    parameters = {name: parameter for name, parameter in unet.named_parameters() if parameter.requires_grad}
    for parameter in parameters.values():
        # peft gives the adapter the base layer's dtype; a bf16 adapter would round small updates away.
        parameter.data = parameter.data.float()
    return parameters


def peft_config(lora: LoraConfig) -> PeftConfig:
    """The adapter's settings for peft: A normal with standard deviation 1 / rank, B zero."""
    from peft import LoraConfig as PeftConfig

    settings: dict[str, Any] = {"r": lora.rank, "lora_alpha": effective_alpha(lora)}
    return PeftConfig(**settings, target_modules=list(lora.targets), init_lora_weights="gaussian")


@contextmanager
def reference(unet: UNet2DConditionModel) -> Iterator[None]:
    """The base model: adapter off inside, on again afterwards whatever happened."""
    unet.disable_adapters()
    try:
        yield
    finally:
        unet.enable_adapters()


def save_adapter(
    folder: Path, unet: UNet2DConditionModel, lora: LoraConfig, facts: Mapping[str, str] | None = None
) -> Path:
    """Write ``folder/pytorch_lora_weights.safetensors`` for ``load_lora_weights`` of an SD or SDXL pipeline.

    Rank, alpha and targets are in the file's metadata, without which a loader would take alpha = rank; `facts` are
    put beside them. The file is written aside and renamed; equal adapters with equal facts give equal bytes.
    """
    from diffusers import StableDiffusionPipeline
    from peft.utils import get_peft_model_state_dict

    layers = {name: tensor.cpu() for name, tensor in get_peft_model_state_dict(unet, adapter_name=NAME).items()}
    metadata = {"r": lora.rank, "lora_alpha": effective_alpha(lora), "target_modules": sorted(lora.targets)}
    with atomic(folder / FILE) as temporary:
        StableDiffusionPipeline.save_lora_weights(
            str(folder), unet_lora_layers=layers, unet_lora_adapter_metadata=metadata, weight_name=temporary.name
        )
        _complete_metadata(temporary, facts or {})
    return folder / FILE


def effective_alpha(lora: LoraConfig) -> float:
    """The alpha that the adapter gets; its product B·A is multiplied by alpha / rank.

    A is drawn with standard deviation 1 / rank, and one step of AdamW moves every element of B by about the learning
    rate, so with alpha = rank it moves an element of B·A in proportion to 1 / sqrt(rank). ``equal_step`` multiplies by
    sqrt(rank / 16), which takes the rank out, so that a comparison of ranks does not compare step sizes.
    """
    alpha = float(lora.rank) if lora.alpha is None else lora.alpha
    return alpha * math.sqrt(lora.rank / EQUAL_STEP_RANK) if lora.scaling == "equal_step" else alpha


def _check_targets(unet: UNet2DConditionModel, targets: list[str]) -> None:
    import torch

    layers = [name for name, module in unet.named_modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)]
    endings = {".".join(name.split(".")[-length:]) for name in layers for length in (1, 2, 3)}
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            raise UserError(
                f"lora.targets: no linear or convolution layer ends with {target!r}{suggest(target, endings)}"
            )


def _complete_metadata(path: Path, facts: Mapping[str, str]) -> None:
    """Add facts, and put the file's metadata in order: safetensors writes several entries in an order of chance."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted({**facts, **header["__metadata__"]}.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
