"""The adapter in the UNet's weights: summed in fp32, though the rest of the UNet is never in fp32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import diffusers
import pytest
import torch

from qsd.config.schema import LoraConfig
from qsd.errors import UserError
from qsd.models.adapter import FILE, add_adapter, save_adapter
from qsd.models.denoiser import load_network
from qsd.models.families.stable_diffusion import FAMILY
from qsd.models.merge import adapted_layers, load_merged, loader_words
from tests.qsd import tiny_pipeline

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

pytestmark = pytest.mark.slow

TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "conv1", "proj_in"]


def random_adapter(folder: Path, unet: Any) -> Path:
    """An adapter that changes every layer it is at."""
    lora = LoraConfig(rank=2, alpha=3.0, targets=TARGETS)
    generator = torch.Generator().manual_seed(7)
    for parameter in add_adapter(unet, lora, 0, FAMILY).values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    save_adapter(folder, unet, lora, FAMILY)
    return folder


def summed(path: Path, adapter: Path, read_as: torch.dtype) -> dict[str, Tensor]:
    """The UNet's weights in bf16 after diffusers has merged the adapter into a UNet in `read_as`."""
    unet = diffusers.UNet2DConditionModel.from_pretrained(path, subfolder="unet", dtype=read_as)
    unet.load_lora_adapter(adapter, weight_name=FILE, prefix="unet")
    unet.fuse_lora()
    unet.unload_lora()
    return dict(unet.bfloat16().state_dict())


@pytest.mark.parametrize(
    ("make", "stored"),
    [
        (tiny_pipeline.pipeline, torch.float32),
        (tiny_pipeline.pipeline, torch.float16),
        (tiny_pipeline.pipeline_xl, torch.bfloat16),
    ],
)
def test_merging_layer_by_layer_is_merging_a_whole_unet_in_fp32(tmp_path: Path, make: Any, stored: torch.dtype) -> None:
    made = make().to(stored)
    made.save_pretrained(tmp_path / "model")
    adapter = random_adapter(tmp_path / "adapter", made.unet)
    merged = load_merged(FAMILY, str(tmp_path / "model"), adapter, "bf16")
    whole, rounded = (summed(tmp_path / "model", adapter, dtype) for dtype in (torch.float32, torch.bfloat16))
    state = merged.state_dict()
    assert list(state) == list(whole)
    assert all(torch.equal(state[name], whole[name]) and whole[name].dtype == torch.bfloat16 for name in whole)
    assert any(not torch.equal(rounded[name], whole[name]) for name in whole)
    plain = load_network(FAMILY, str(tmp_path / "model"), "bf16")
    assert type(merged) is type(plain) is diffusers.UNet2DConditionModel
    assert dict(merged.config) == dict(plain.config)
    changed = {name for name in whole if not torch.equal(plain.state_dict()[name], whole[name])}
    assert {name.split(".")[-2] for name in changed} == {"to_q", "to_k", "to_v", "0", "proj", "2", "conv1", "proj_in"}


def test_only_adapted_layers_are_read_in_fp32(tmp_path: Path) -> None:
    folder = tiny_pipeline.save(tmp_path / "model")
    names = loader_words(adapted_layers(random_adapter(tmp_path / "adapter", tiny_pipeline.unet())))
    assert names == ["conv1", "net", "proj", "proj_in", "to_k", "to_out", "to_q", "to_v"]
    unet = load_network(FAMILY, str(folder), "bf16", exact=["to_q", "conv1"])
    exact = {name for name, parameter in unet.named_parameters() if parameter.dtype == torch.float32}
    assert exact == {name for name in unet.state_dict() if {"to_q", "conv1"} & set(name.split("."))}
    assert {parameter.dtype for parameter in unet.parameters()} == {torch.float32, torch.bfloat16}
    assert diffusers.UNet2DConditionModel._keep_in_fp32_modules is None


def test_an_adapter_for_other_layers_is_refused(tmp_path: Path) -> None:
    """A second level of attention, which the model has not: diffusers would draw with a part of the adapter."""
    larger = tiny_pipeline.unet(transformer_layers_per_block=2)
    adapter = random_adapter(tmp_path / "adapter", larger)
    folder = tiny_pipeline.save(tmp_path / "model")
    with pytest.raises(
        UserError, match=r"\d+ layers are not of model\.path .*, such as unet\..*transformer_blocks\.1\."
    ):
        load_merged(FAMILY, str(folder), adapter, "fp32")
