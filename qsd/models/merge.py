"""A UNet with the adapter merged into its weights, in fp32, whatever it computes in afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qsd.models.adapter import FILE
from qsd.models.denoiser import load_unet

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

_PREFIX = "unet"


def load_merged(path: str, adapter: Path, precision: str) -> UNet2DConditionModel:
    """The UNet of a pipeline folder or hub name, W + alpha / rank · B A for every adapted weight W.

    The sum is taken in fp32, of the weight as its file has it, and then cast to `precision`. Layers without an
    adapter are read in `precision` at once, so that there is never a whole UNet in fp32 on the way to one in bf16.

    Args:
        path: folder, or hub name with @revision.
        adapter: folder with ``pytorch_lora_weights.safetensors``.
        precision: of the weights, fp32 or bf16.

    Raises:
        UserError: nothing to load there.
    """
    unet: Any = load_unet(path, precision, exact=adapted_names(adapter))
    unet.load_lora_adapter(adapter, weight_name=FILE, prefix=_PREFIX)
    unet.fuse_lora()
    unet.unload_lora()
    return cast("UNet2DConditionModel", unet.bfloat16() if precision == "bf16" else unet)


def adapted_names(adapter: Path) -> list[str]:
    """The last word in the name of every adapted layer, such as ``to_q``, and ``to_out`` of ``to_out.0``."""
    from safetensors import safe_open

    with safe_open(adapter / FILE, framework="pt") as stored:
        layers = {name.split(".lora_")[0] for name in stored.keys()}  # noqa: SIM118
    return sorted({next(word for word in reversed(layer.split(".")) if not word.isdigit()) for layer in layers})
