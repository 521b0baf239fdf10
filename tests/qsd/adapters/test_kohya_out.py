"""The file for other programs: the names of its tensors as those programs look for them, and the same change."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from qsd.adapters.block_names import original_names
from qsd.config.schema import LoraConfig
from qsd.models.adapter import add_adapter, save_adapter
from qsd.models.families.stable_diffusion import FAMILY
from tests.qsd import tiny_pipeline
from tests.qsd.adapters import layouts

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

RANK, ALPHA = 2, 3.0
TARGETS = [*layouts.TARGETS, "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "proj_out"]


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    """A UNet, the same with an adapter of random numbers, and the folder in which the adapter is saved."""
    plain = (tiny_pipeline.pipeline if request.param == "sd" else tiny_pipeline.pipeline_xl)().unet
    network, folder = copy.deepcopy(plain), tmp_path_factory.mktemp("adapter")
    lora = LoraConfig(rank=RANK, alpha=ALPHA, targets=TARGETS)
    generator = torch.Generator().manual_seed(2)
    for parameter in add_adapter(network, lora, 0, FAMILY).values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    save_adapter(folder, network, lora, FAMILY, {"qsd.seed": "3"})
    return plain, network, folder


def change(down: Tensor, up: Tensor, alpha: float) -> Tensor:
    """What ComfyUI and the web UI add: (alpha / rank) · up · down, of flattened matrices."""
    product = up.flatten(1) @ down.flatten(1)
    return (alpha / down.shape[0] * product).reshape(up.shape[0], *down.shape[1:])


@pytest.mark.slow
def test_comfyui_finds_every_tensor_and_adds_the_same(trained: tuple[Any, Any, Path]) -> None:
    """ComfyUI looks for ``lora_unet_`` and the name of a weight with underscores, and reads no metadata."""
    plain, network, folder = trained
    file = load_file(folder / "kohya.safetensors")
    key_map = {
        "lora_unet_" + name.removesuffix(".weight").replace(".", "_"): name
        for name in plain.state_dict()
        if name.endswith(".weight")
    }
    used = set()
    weights = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    for key, name in key_map.items():
        parts = [f"{key}.{part}" for part in ("lora_down.weight", "lora_up.weight", "alpha")]
        if parts[0] in file:
            down, up, alpha = (file[part] for part in parts)
            weights[name] += change(down, up, alpha.item())
            used |= set(parts)
    assert used == set(file)
    network = copy.deepcopy(network)
    network.fuse_lora()
    network.unload_lora()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-5, atol=1e-6)
    assert any(not torch.equal(weights[name], tensor) for name, tensor in plain.state_dict().items())


SUFFIXES = {
    "conv1": "in_layers_2",
    "conv2": "out_layers_3",
    "time_emb_proj": "emb_layers_1",
    "conv_shortcut": "skip_connection",
}
"""AUTOMATIC1111's names of the parts of a resnet."""


def compvis(key: str) -> str:
    """A layer's name in AUTOMATIC1111's web UI, for two levels with one layer each.

    The web UI rewrites ``lora_unet_`` names to those of the original code. Its formulas are for two layers in a level,
    three blocks with the change of size; here a level has two.
    """
    if match := re.fullmatch(
        r"lora_unet_(mid_block|down_blocks_(\d+)|up_blocks_(\d+))_(attentions|resnets)_(\d+)_(.+)", key
    ):
        block, down, up, kind, number, rest = match.groups()
        suffix = SUFFIXES.get(rest, rest) if kind == "resnets" else rest
        if block == "mid_block":
            return f"diffusion_model_middle_block_{1 if kind == 'attentions' else int(number) * 2}_{suffix}"
        place = 1 if kind == "attentions" else 0
        if down is not None:
            return f"diffusion_model_input_blocks_{1 + int(down) * 2 + int(number)}_{place}_{suffix}"
        return f"diffusion_model_output_blocks_{int(up) * 2 + int(number)}_{place}_{suffix}"
    if match := re.fullmatch(r"lora_unet_down_blocks_(\d+)_downsamplers_0_conv", key):
        return f"diffusion_model_input_blocks_{2 + int(match[1]) * 2}_0_op"
    match = re.fullmatch(r"lora_unet_up_blocks_(\d+)_upsamplers_0_conv", key)
    assert match, key
    # The upper level of this UNet has attention, which is the block's second part.
    return f"diffusion_model_output_blocks_{1 + int(match[1]) * 2}_2_conv"


def test_the_web_ui_knows_every_name(trained: tuple[Any, Any, Path]) -> None:
    plain, _, folder = trained
    layers = [name for name, module in plain.named_modules() if hasattr(module, "weight")]
    known = {"diffusion_model_" + name.replace(".", "_") for name in original_names(layers, 1)}
    with safe_open(folder / "kohya.safetensors", framework="pt") as stored:
        keys = {name.partition(".")[0] for name in stored.keys()}  # noqa: SIM118
    assert {compvis(key) for key in keys} <= known
    assert len({compvis(key) for key in keys}) == len(keys)


def test_the_file_repeats_and_says_its_scale(trained: tuple[Any, Any, Path], tmp_path: Path) -> None:
    _, network, folder = trained
    lora = LoraConfig(rank=RANK, alpha=ALPHA, targets=TARGETS)
    contents = set()
    for number in range(8):
        save_adapter(tmp_path / str(number), network, lora, FAMILY, {"qsd.seed": "3"})
        contents.add((tmp_path / str(number) / "kohya.safetensors").read_bytes())
    assert contents == {(folder / "kohya.safetensors").read_bytes()}
    with safe_open(folder / "kohya.safetensors", framework="pt") as stored:
        facts = stored.metadata()
    assert facts == {
        "format": "pt",
        "qsd.seed": "3",
        "ss_network_alpha": "3",
        "ss_network_dim": "2",
        "ss_network_module": "networks.lora",
    }
