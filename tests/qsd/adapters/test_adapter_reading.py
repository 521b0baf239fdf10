"""Adapters that users bring: every layout adds what its tensors say, and what cannot is refused by name."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import peft
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.loaders.lora_conversion_utils import (
    _convert_non_diffusers_lora_to_diffusers,
    _maybe_map_sgm_blocks_to_diffusers,
)
from safetensors.torch import load_file

from qsd.adapters.block_names import original_names
from qsd.adapters.layouts import place_of
from qsd.adapters.locate import find_adapter
from qsd.adapters.reading import Layers, LoraLayer, read_adapter
from qsd.errors import UserError
from qsd.models.families.stable_diffusion import FAMILY
from qsd.models.families.stable_diffusion_xl import FAMILY as XL
from qsd.models.merge import adaptable_layers, load_merged
from qsd.models.pipeline import load_pipeline
from tests.qsd import tiny_pipeline
from tests.qsd.adapters import layouts
from tests.qsd.models.smallest import smallest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

FILE = "pytorch_lora_weights.safetensors"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def unet() -> Any:
    return tiny_pipeline.pipeline().unet


@pytest.fixture(scope="module")
def halves(unet: Any) -> layouts.Halves:
    return layouts.random_halves(unet)


@pytest.fixture(scope="module")
def layers(model: Path) -> Layers:
    return adaptable_layers(FAMILY, str(model))


def read(layers: Layers, folder: Path) -> dict[str, LoraLayer]:
    """The adapter as it is checked before a network is loaded."""
    return read_adapter(find_adapter(folder), layers)


def merged(model: Path, folder: Path) -> dict[str, Tensor]:
    """The UNet's weights as generation uses them."""
    return dict(load_merged(FAMILY, str(model), folder, "fp32").state_dict())


def assert_equal(state: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert list(state) == list(other)
    for name in state:
        torch.testing.assert_close(state[name], other[name], rtol=1e-5, atol=1e-6)


def old(halves: layouts.Halves) -> dict[str, Tensor]:
    return layouts.with_alphas(halves, lambda name: f"unet.{name}", "lora.down", "lora.up")


def linear_layer(halves: layouts.Halves) -> dict[str, Tensor]:
    return layouts.with_alphas(halves, lambda name: name, "lora_linear_layer.down", "lora_linear_layer.up")


def sgm(halves: layouts.Halves) -> dict[str, Tensor]:
    names = {here: there for there, here in original_names(list(halves), 1).items()}
    assert names != {here: here for here in halves}
    return layouts.kohya(halves, names)


@pytest.mark.parametrize("layout", [old, linear_layer, layouts.kohya, sgm])
def test_alphas_beside_the_layers_are_the_scale(
    model: Path,
    tmp_path: Path,
    unet: Any,
    halves: layouts.Halves,
    layout: Callable[[layouts.Halves], dict[str, Tensor]],
) -> None:
    folder = layouts.write(tmp_path, layout(halves), {"format": "pt"})
    assert_equal(merged(model, folder), layouts.expected(unet, halves))


def test_diffusers_metadata_is_the_scale_and_without_it_the_scale_is_one(
    model: Path, tmp_path: Path, unet: Any, halves: layouts.Halves
) -> None:
    tensors, metadata = layouts.diffusers(halves)
    assert_equal(merged(model, layouts.write(tmp_path / "a", tensors, metadata)), layouts.expected(unet, halves))
    assert_equal(merged(model, layouts.write(tmp_path / "b", tensors)), layouts.expected(unet, halves, 1.0))


def test_attention_processors_of_old_diffusers(model: Path, tmp_path: Path, unet: Any) -> None:
    halves = layouts.random_halves(unet, ("to_q", "to_out.0"))
    tensors = {}
    for name, (down, up) in halves.items():
        attention, _, target = name.removesuffix(".0").rpartition(".")
        tensors[f"unet.{attention}.processor.{target}_lora.down.weight"] = down
        tensors[f"unet.{attention}.processor.{target}_lora.up.weight"] = up
    assert_equal(merged(model, layouts.write(tmp_path, tensors)), layouts.expected(unet, halves, 1.0))


@pytest.mark.parametrize(("root", "dora"), [(False, False), (True, False), (False, True)])
def test_peft_with_patterns_is_what_peft_merges(model: Path, tmp_path: Path, unet: Any, root: bool, dora: bool) -> None:
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=["to_q", "to_out.0", "conv1", "proj_in"],
        rank_pattern={"attn2.to_q": 2},
        alpha_pattern={"conv1": 3, r"down_blocks\.1\..*\.to_out\.0": 9},
        use_rslora=root,
        use_dora=dora,
        init_lora_weights=False,
    )
    torch.manual_seed(0)
    made = peft.get_peft_model(copy.deepcopy(unet), config)
    made.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("adapter_*")) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    theirs = dict(made.merge_and_unload().state_dict())
    ours = merged(model, tmp_path)
    if dora:
        assert_equal(ours, theirs)
    else:
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not torch.equal(ours["conv_in.weight"], ours["conv_out.weight"])


def test_a_peft_file_renamed_without_its_config_is_refused(
    layers: Layers, tmp_path: Path, halves: layouts.Halves
) -> None:
    tensors = {}
    for name, (down, up) in halves.items():
        tensors[f"base_model.model.{name}.lora_A.weight"], tensors[f"base_model.model.{name}.lora_B.weight"] = down, up
    folder = layouts.write(tmp_path, tensors)
    with pytest.raises(UserError, match=r"PEFT's layout, whose scale is only in adapter_config\.json; put that file"):
        read(layers, folder)
    settings = {"peft_type": "LORA", "r": layouts.RANK, "lora_alpha": layouts.ALPHA}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    assert {layer.scale for layer in read(layers, folder).values()} == {layouts.ALPHA / layouts.RANK}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"use_dora": True}, "use_dora is true, but .* has no lora_magnitude_vector for "),
        ({"bias": "lora_only"}, "not supported: bias"),
        ({"lora_bias": True}, "not supported: lora_bias"),
        ({"modules_to_save": ["conv_in"]}, "not supported: modules_to_save"),
        ({"fan_in_fan_out": True}, "not supported: fan_in_fan_out"),
        ({"something_of_tomorrow": 2}, "not supported: something_of_tomorrow"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa' changes the base model's weights"),
        ({"peft_type": "LOHA"}, "peft_type LOHA is not supported"),
        ({"r": 9}, "rank 9 for .*, whose tensors have rank 3"),
        ({"lora_alpha": 0}, "is 0: the adapter would change nothing"),
        ({"r": "four"}, "no numbers for rank and alpha"),
        ({"use_rslora": "false"}, "use_rslora is 'false'; it must be true or false"),
        ({"lora_alpha": None}, "no numbers for rank and alpha"),
        ({"alpha_pattern": {"(": 3}}, "is no pattern of layers' names"),
    ],
)
def test_peft_settings_that_are_not_supported_are_named(
    layers: Layers, tmp_path: Path, halves: layouts.Halves, changed: dict[str, Any], message: str
) -> None:
    tensors = {}
    for name, (down, up) in halves.items():
        tensors[f"base_model.model.{name}.lora_A.weight"], tensors[f"base_model.model.{name}.lora_B.weight"] = down, up
    folder = layouts.write(tmp_path, tensors, name="adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": layouts.RANK, "lora_alpha": layouts.ALPHA, **changed}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=message):
        read(layers, folder)


def test_a_pointer_in_place_of_pefts_settings_is_called_one(
    layers: Layers, tmp_path: Path, halves: layouts.Halves
) -> None:
    tensors = {
        f"base_model.model.{name}.lora_{half}.weight": tensor
        for name, pair in halves.items()
        for half, tensor in zip("AB", pair, strict=True)
    }
    folder = layouts.write(tmp_path, tensors, name="adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(UserError, match=r"adapter_config\.json: a git-lfs pointer instead of the file"):
        read(layers, folder)


Q = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


def _without_one_half(tensors: dict[str, Tensor]) -> None:
    del tensors[f"unet.{Q}.lora_B.weight"]


def _with_text(tensors: dict[str, Tensor]) -> None:
    tensors["text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight"] = torch.zeros(3, 16)


def _with_kohya_text(tensors: dict[str, Tensor]) -> None:
    tensors["lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight"] = torch.zeros(3, 16)


def _with_dora(tensors: dict[str, Tensor]) -> None:
    tensors[f"unet.{Q}.lora_magnitude_vector"] = torch.zeros(32)


def _with_lengths_alone(tensors: dict[str, Tensor]) -> None:
    _with_dora(tensors)
    for half in "AB":
        del tensors[f"unet.{Q}.lora_{half}.weight"]


def _with_lengths(tensors: dict[str, Tensor]) -> None:
    for name in [name for name in tensors if ".lora_B." in name]:
        tensors[name.replace(".lora_B.weight", ".lora_magnitude_vector")] = torch.ones(len(tensors[name]))


def _with_kohya_dora(tensors: dict[str, Tensor]) -> None:
    tensors["lora_unet_mid_block_attentions_0_proj_in.dora_scale"] = torch.ones(32, 1)


def _with_loha(tensors: dict[str, Tensor]) -> None:
    tensors["lora_unet_mid_block_attentions_0_proj_in.hada_w1_a"] = torch.zeros(3, 16)


def _with_lokr(tensors: dict[str, Tensor]) -> None:
    tensors["lora_unet_mid_block_attentions_0_proj_in.lokr_w1"] = torch.zeros(3, 16)


def _with_bias(tensors: dict[str, Tensor]) -> None:
    tensors[f"unet.{Q}.lora_B.bias"] = torch.zeros(32)


def _with_unknown(tensors: dict[str, Tensor]) -> None:
    tensors["unet.something"] = torch.zeros(3)


def _of_another_level(tensors: dict[str, Tensor]) -> None:
    for half in "AB":
        tensors[f"unet.{Q.replace('blocks.1', 'blocks.9')}.lora_{half}.weight"] = torch.zeros(3, 3)


def _of_another_width(tensors: dict[str, Tensor]) -> None:
    tensors[f"unet.{Q}.lora_A.weight"] = torch.zeros(3, 64)


def _twice(tensors: dict[str, Tensor]) -> None:
    tensors[f"unet.{Q}.lora.down.weight"] = torch.zeros(3, 32)


def _not_finite(tensors: dict[str, Tensor]) -> None:
    tensors[f"unet.{Q}.lora_A.weight"][0, 0] = torch.nan


def _two_scales(tensors: dict[str, Tensor]) -> None:
    for name in [name for name in tensors if ".lora_A." in name]:
        tensors[name.replace(".lora_A.weight", ".alpha")] = torch.tensor(1.0)


def _some_alphas(tensors: dict[str, Tensor]) -> None:
    tensors[f"unet.{Q}.alpha"] = torch.tensor(layouts.ALPHA)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_one_half, rf"1 of \d+ tensors .*without the other half \(up\): unet\.{Q}\.lora_A\.weight"),
        (_with_text, r"1 of \d+ .*a part for a text encoder, which is not supported: text_encoder\..*like diffusers"),
        (_with_kohya_text, "a part for a text encoder, which is not supported: lora_te1_"),
        (_with_dora, r"lora_magnitude_vector is missing for \d+ of \d+ layers .*"),
        (_with_lengths_alone, rf"without the other half \(down\): unet\.{Q}\.lora_magnitude_vector"),
        (_with_lengths, "use_dora is false, but .* has a lora_magnitude_vector for "),
        (_with_kohya_dora, r"DoRA in kohya's layout, which is not supported: lora_unet_"),
        (_with_loha, "LoHa, which is not supported"),
        (_with_lokr, "LoKr, which is not supported"),
        (_with_bias, "a bias, which is not supported"),
        (_with_unknown, r"not of a layout that is known \(diffusers, PEFT, kohya\): unet\.something"),
        (_of_another_level, r"for layers that model\.path .* does not have: an adapter of another model: unet\.down_"),
        (_of_another_width, r"has the shapes \(3, 64\) and \(32, 3\), the layer's weight is \(32, 32\)"),
        (_twice, f"twice the down half of {Q}"),
        (_not_finite, rf"1 tensors have NaN or infinite numbers \(unet\.{Q}\.lora_A\.weight\)"),
        (_two_scales, "several scales of .*leave the right one"),
        (_some_alphas, "alpha is missing for"),
    ],
)
def test_what_cannot_be_used_whole_is_refused_by_name(
    layers: Layers, tmp_path: Path, halves: layouts.Halves, damage: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    tensors, metadata = layouts.diffusers(halves)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    damage(tensors)
    with pytest.raises(UserError, match=message):
        read(layers, layouts.write(tmp_path, tensors, metadata))


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:3000], "truncated"),
        (_cut, r"truncated: \d+ bytes, its header says \d+"),
        (lambda _: b"", "empty"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a git-lfs pointer"),
        (lambda _: b"<!DOCTYPE html><html></html>", "a web page"),
        (lambda _: b"PK\x03\x04" + bytes(100), "a torch checkpoint under the name of a safetensors file"),
        (lambda content: content[:8] + b"{{" + content[10:], "damaged header"),
        (lambda content: content + b"more", "damaged: "),
        (lambda _: (2).to_bytes(8, "little") + b"{}", "has no tensors"),
    ],
)
def test_a_damaged_file_is_told_for_what_it_is(
    layers: Layers, tmp_path: Path, halves: layouts.Halves, damage: Callable[[bytes], bytes], message: str
) -> None:
    folder = layouts.write(tmp_path, *layouts.diffusers(halves))
    (folder / FILE).write_bytes(damage((folder / FILE).read_bytes()))
    with pytest.raises(UserError, match=message):
        read(layers, folder)


def test_a_missing_adapter_is_told_apart_from_one_in_another_file(
    model: Path, tmp_path: Path, unet: Any, halves: layouts.Halves
) -> None:
    with pytest.raises(UserError, match="the adapter is missing; run the train stage again"):
        load_pipeline(str(model), CPU, tmp_path / "nothing")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_lora_weights.bin").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"no adapter in safetensors; pytorch_lora_weights\.bin can run code"):
        load_pipeline(str(model), CPU, tmp_path / "pickled")
    only = layouts.write(tmp_path / "only", layouts.kohya(halves), name="my_style_v3.safetensors")
    assert_equal(merged(model, only), layouts.expected(unet, halves))
    layouts.write(only, layouts.kohya(halves), name="my_style_v4.safetensors")
    with pytest.raises(UserError, match=r"several adapters \(my_style_v3\.safetensors, my_style_v4\.safetensors\)"):
        merged(model, only)


def test_a_file_beside_the_adapter_is_not_left_out(layers: Layers, tmp_path: Path, halves: layouts.Halves) -> None:
    folder = layouts.write(tmp_path / "train" / "adapter", *layouts.diffusers(halves))
    (folder / "._pytorch_lora_weights.safetensors").write_bytes(b"of a Mac")
    assert len(read(layers, tmp_path / "train")) == len(halves)
    for place in (folder, folder.parent):
        (place / "more.safetensors").write_bytes(b"")
        with pytest.raises(UserError, match=r"several adapters \(.*more\.safetensors.*\); leave the one that is meant"):
            read(layers, tmp_path / "train")
        (place / "more.safetensors").unlink()


def test_metadata_of_another_network_alone_is_refused(layers: Layers, tmp_path: Path, halves: layouts.Halves) -> None:
    tensors, metadata = layouts.diffusers(halves)
    other = {name: text.replace('"unet.', '"transformer.') for name, text in metadata.items()}
    with pytest.raises(UserError, match="has settings of transformer, none of unet: the scale is not known"):
        read(layers, layouts.write(tmp_path, tensors, other))


def test_kohya_metadata_without_alphas_is_refused(layers: Layers, tmp_path: Path, halves: layouts.Halves) -> None:
    tensors = {name: tensor for name, tensor in layouts.kohya(halves).items() if not name.endswith(".alpha")}
    with pytest.raises(UserError, match="metadata says alpha 8, but its tensors alpha are missing"):
        read(layers, layouts.write(tmp_path, tensors, {"ss_network_alpha": "8"}))


@pytest.mark.slow
def test_kohya_files_are_what_diffusers_loads(model: Path, tmp_path: Path, halves: layouts.Halves) -> None:
    """diffusers' own conversion and peft's merge, an implementation that shares nothing with ours."""
    attention = {name: pair for name, pair in halves.items() if ".attn" in name or name.endswith("proj_in")}
    folder = layouts.write(tmp_path, layouts.kohya(attention))
    stock = StableDiffusionPipeline.from_pretrained(model, local_files_only=True)
    stock.load_lora_weights(folder)
    stock.fuse_lora()
    stock.unload_lora_weights()
    assert_equal(merged(model, folder), dict(stock.unet.state_dict()))


def test_names_of_the_original_code_are_as_diffusers_converts_them(tmp_path: Path) -> None:
    """For every layer of SDXL's UNet that diffusers' converter knows, among them those of ``input_blocks_4_1``."""
    from diffusers import UNet2DConditionModel

    network = UNet2DConditionModel(**{**smallest("sdxl").unet, "layers_per_block": 2})
    network.save_pretrained(tmp_path / "unet")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": XL.pipeline}))
    layers = adaptable_layers(XL, str(tmp_path))
    there = {here: other for other, here in layers.others.items()}
    assert set(there) == set(layers.shapes)
    assert there["down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"].startswith("input_blocks.4.1.")
    tensors = {}
    for number, name in enumerate(layers.shapes):
        flat = "lora_unet_" + there[name].replace(".", "_")
        tensors |= {f"{flat}.lora_{half}.weight": torch.tensor(float(number)) for half in ("down", "up")}
    converted, _ = _convert_non_diffusers_lora_to_diffusers(
        _maybe_map_sgm_blocks_to_diffusers(dict(tensors), network.config)
    )
    theirs = {}
    for name, tensor in converted.items():
        if place := place_of(name, "unet"):
            theirs[place.layer] = int(tensor)
    ours = {name: number for number, name in enumerate(layers.shapes)}
    known = {name: number for name, number in theirs.items() if name in ours}
    assert known == {name: ours[name] for name in known}
    # Its converter garbles the names of a few layers outside attention; those that people adapt are all there.
    assert {name for name in ours if "attentions" in name or "samplers" in name or ".conv" in name} <= set(known)


def test_what_goes_out_reads_back(model: Path, tmp_path: Path, unet: Any) -> None:
    """The two files of one adapter merge to the same weights."""
    from qsd.config.schema import LoraConfig
    from qsd.models.adapter import add_adapter, save_adapter

    network = copy.deepcopy(unet)
    lora = LoraConfig(rank=2, alpha=3.0, targets=list(layouts.TARGETS))
    generator = torch.Generator().manual_seed(1)
    for parameter in add_adapter(network, lora, 0, FAMILY).values():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    save_adapter(tmp_path / "both", network, lora, FAMILY)
    (tmp_path / "kohya").mkdir()
    content = (tmp_path / "both" / "kohya.safetensors").read_bytes()
    (tmp_path / "kohya" / "kohya.safetensors").write_bytes(content)
    assert_equal(merged(model, tmp_path / "kohya"), merged(model, tmp_path / "both"))
    assert len(load_file(tmp_path / "kohya" / "kohya.safetensors")) % 3 == 0


@pytest.mark.parametrize(
    ("kind", "rounding"),
    [("float8_e4m3fn", 0.07), ("float8_e5m2", 0.13), ("bfloat16", 0.004), ("float16", 0.0005), ("float64", 0.0)],
)
def test_every_type_of_floating_point_is_read_as_it_was_stored(
    layers: Layers, tmp_path: Path, halves: layouts.Halves, kind: str, rounding: float
) -> None:
    plain = layouts.kohya(halves)
    stored = {name: tensor.to(getattr(torch, kind)) for name, tensor in plain.items()}
    adapter = read(layers, layouts.write(tmp_path / "b", stored))
    for name, layer in read(layers, layouts.write(tmp_path / "a", plain)).items():
        torch.testing.assert_close(
            adapter[name].down, layer.down, rtol=rounding, atol=0.002 if rounding > 0.01 else 1e-6
        )


@pytest.mark.parametrize("kind", ["int8", "uint8", "float8_e8m0fnu", "complex64", "float4_e2m1fn_x2"])
def test_types_that_are_no_weights_by_themselves_are_named(
    layers: Layers, tmp_path: Path, halves: layouts.Halves, kind: str
) -> None:
    """Of F8_E8M0 the sign would be lost; F4 cannot be converted, which was a traceback."""
    packed = kind == "float4_e2m1fn_x2"
    stored = {
        name: tensor.to(torch.uint8).view(torch.float4_e2m1fn_x2) if packed else tensor.to(getattr(torch, kind))
        for name, tensor in layouts.diffusers(halves)[0].items()
    }
    with pytest.raises(UserError, match=r"instead of plain floating point .*save the weights as F32, F16 or BF16"):
        read(layers, layouts.write(tmp_path, stored))


def _empty(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor[:0] if "lora_A" in name else tensor[:, :0] for name, tensor in tensors.items()}


def _zeros(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor * 0 if "lora_B" in name else tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: {}, "has no tensors"),
        (_empty, r"has the shapes \(0, "),
        (_zeros, "its tensors are zeros: the adapter would change nothing"),
    ],
    ids=["no tensors", "rank 0", "zeros"],
)
def test_an_adapter_of_nothing_is_refused(
    layers: Layers,
    tmp_path: Path,
    halves: layouts.Halves,
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    message: str,
) -> None:
    """It would give the base model's pictures."""
    with pytest.raises(UserError, match=message):
        read(layers, layouts.write(tmp_path, change(layouts.diffusers(halves)[0]), {"format": "pt"}))
