"""rsLoRA, DoRA and dropout of an adapter: what they do in the network, and what is read back from their files."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from qsd.adapters.locate import FILE, KOHYA_FILE
from qsd.config.schema import LoraConfig
from qsd.errors import UserError
from qsd.models.adapter import add_adapter, reference, save_adapter
from qsd.models.adapter_dropout import dropout_switch
from qsd.models.families.stable_diffusion import FAMILY
from qsd.models.merge import load_merged
from qsd.models.precision import autocast_for
from tests.qsd import tiny_pipeline

if TYPE_CHECKING:
    from pathlib import Path

LINEAR = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj"]
LORA = LoraConfig(rank=4, alpha=6.0, targets=[*LINEAR, "conv1", "proj_in", "time_emb_proj"])
INPUTS = torch.Generator().manual_seed(1)
NOISY = torch.randn(4, 4, 8, 8, generator=INPUTS)
TIMES = torch.tensor([3, 500, 3, 500])
HIDDEN = torch.randn(4, 5, 32, generator=INPUTS)


def network_of(lora: LoraConfig, seed: int | None = None, dtype: torch.dtype = torch.float32) -> Any:
    """A UNet with an adapter; with a seed, one of random numbers."""
    network = tiny_pipeline.pipeline().unet.requires_grad_(False).eval().to(dtype)
    parameters = add_adapter(network, lora, 0, FAMILY)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in parameters.values():
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.1
    return network


def output(network: Any) -> torch.Tensor:
    hidden = HIDDEN[..., : network.config.cross_attention_dim]
    return network(NOISY, TIMES, encoder_hidden_states=hidden, return_dict=False)[0].float()  # type: ignore[no-any-return]


@pytest.mark.parametrize("changes", [{"rslora": True}, {"dora": True}, {"dora": True, "rslora": True, "dropout": 0.3}])
def test_the_file_is_what_was_trained(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Merged weights of the file compute what the network with the adapter does."""
    lora = replace(LORA, **changes)
    network = network_of(lora, seed=2)
    save_adapter(tmp_path / "adapter", network, lora, FAMILY)
    merged = load_merged(FAMILY, str(tiny_pipeline.save(tmp_path / "model")), tmp_path / "adapter", "fp32")
    with torch.no_grad(), reference(network):
        before = output(network)
    with torch.no_grad():
        torch.testing.assert_close(output(merged), output(network), rtol=1e-4, atol=1e-5)
    assert (output(merged) - before).abs().max() > 0.01
    assert (tmp_path / "adapter" / KOHYA_FILE).exists() == (not lora.dora)


def test_rslora_divides_by_the_root_of_the_rank(tmp_path: Path) -> None:
    """In the network, in the metadata, and as kohya's alpha, which other programs divide by the rank."""
    lora = replace(LORA, rslora=True)
    network = network_of(lora, seed=2)
    scales = {module.scaling["default"] for module in network.modules() if hasattr(module, "lora_A")}
    assert scales == {6.0 / 2}
    save_adapter(tmp_path, network, lora, FAMILY)
    alphas = [value.item() for name, value in load_file(tmp_path / KOHYA_FILE).items() if name.endswith(".alpha")]
    assert set(alphas) == {6.0 * math.sqrt(4)}
    with safe_open(tmp_path / FILE, framework="pt") as stored:
        settings = json.loads(stored.metadata()["lora_adapter_metadata"])
    assert settings["unet.use_rslora"] is True
    assert settings["unet.lora_alpha"] == 6.0
    (tmp_path / FILE).unlink()
    model = str(tiny_pipeline.save(tmp_path / "model"))
    with torch.no_grad():
        torch.testing.assert_close(
            output(load_merged(FAMILY, model, tmp_path, "fp32")), output(network), rtol=1e-4, atol=1e-5
        )


def test_metadata_says_nothing_of_what_was_not_chosen_and_never_of_dropout(tmp_path: Path) -> None:
    """Files of plain adapters keep their bytes; a loader that read of dropout would drop while it draws."""
    save_adapter(tmp_path, network_of(replace(LORA, dropout=0.5)), replace(LORA, dropout=0.5), FAMILY)
    with safe_open(tmp_path / FILE, framework="pt") as stored:
        settings = json.loads(stored.metadata()["lora_adapter_metadata"])
    assert set(settings) == {"unet.r", "unet.lora_alpha", "unet.target_modules"}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("changes", [{"rslora": True}, {"dora": True}, {"dora": True, "dropout": 0.3}])
def test_a_fresh_adapter_changes_no_bit(changes: dict[str, Any], precision: str) -> None:
    targets = LORA.targets if precision == "fp32" else LINEAR
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    network = network_of(replace(LORA, targets=targets, **changes), dtype=dtype)
    switch = dropout_switch(network)
    with torch.no_grad(), autocast_for("cpu", precision), switch.on(torch.tensor([5, 6])):
        policy = output(network)
        with reference(network):
            assert torch.equal(policy, output(network))


def test_dora_measures_rows_in_fp32_whatever_the_weights_are() -> None:
    network = network_of(replace(LORA, targets=LINEAR, dora=True), dtype=torch.bfloat16)
    layers: list[Any] = [module for module in network.modules() if hasattr(module, "lora_magnitude_vector")]
    layers = [layer for layer in layers if len(layer.lora_magnitude_vector)]
    assert layers
    for layer in layers:
        lengths = layer.lora_magnitude_vector["default"].weight
        assert lengths.dtype == torch.float32
        torch.testing.assert_close(lengths.data, layer.base_layer.weight.float().norm(dim=1), rtol=1e-6, atol=0)


def test_dora_on_convolutions_is_refused_in_bf16_by_name() -> None:
    with pytest.raises(UserError, match=r"lora\.targets: conv1 is a convolution, and lora\.dora works in bf16 on"):
        network_of(replace(LORA, dora=True), dtype=torch.bfloat16)


# ── PEFT's cast ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_without_pefts_cast_of_inputs_no_bit_changes(dropout: float) -> None:
    """In bf16, outputs and gradients."""
    lora = replace(LORA, dropout=dropout)
    network = network_of(lora, seed=2, dtype=torch.bfloat16)
    layers: list[Any] = [module for module in network.modules() if hasattr(module, "lora_A")]
    assert layers
    assert not any(layer.cast_input_dtype_enabled for layer in layers)
    results = []
    for cast in (False, True):
        for layer in layers:
            layer.cast_input_dtype_enabled = cast
        with autocast_for("cpu", "bf16"), dropout_switch(network).on(torch.tensor([5, 6])):
            policy = output(network)
            trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
            results.append([policy.detach(), *torch.autograd.grad(policy.square().mean(), trained)])
    for without, with_cast in zip(*results, strict=True):
        assert torch.equal(without, with_cast)


# ── Dropout ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def masks(network: Any, keys: list[int], x: torch.Tensor) -> torch.Tensor:
    """Which elements of x the first adapted layer keeps."""
    layer = next(module for module in network.modules() if hasattr(module, "lora_dropout"))
    with dropout_switch(network).on(torch.tensor(keys)):
        return layer.lora_dropout["default"](x) != 0  # type: ignore[no-any-return]


def test_dropout_draws_for_each_pair_alone() -> None:
    """A pair's mask is the same whatever its neighbours are, and the same for its two images."""
    network = network_of(replace(LORA, dropout=0.3))
    ones = torch.ones(6, 7, 32)
    both = masks(network, [11, -12, 2**62 + 13], ones)
    assert torch.equal(both[:3], both[3:])
    assert torch.equal(masks(network, [-12], ones[:2])[0], both[1])
    assert torch.equal(masks(network, [2**62 + 13, 11], ones[:2]), both[[2, 0]])
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(both[0], masks(network, [11 + 2**40], ones[:1])[0])


def test_layers_have_different_masks() -> None:
    network = network_of(replace(LORA, dropout=0.3))
    layers: list[Any] = [module for module in network.modules() if hasattr(module, "lora_dropout")]
    with dropout_switch(network).on(torch.tensor([11])):
        first, second = (layer.lora_dropout["default"](torch.ones(1, 50, 64)) for layer in layers[:2])
    assert 0.3 < (first == second).float().mean() < 0.8


def test_dropout_leaves_out_its_share_evenly_and_keeps_the_mean() -> None:
    network = network_of(replace(LORA, dropout=0.3))
    layer = next(module for module in network.modules() if hasattr(module, "lora_dropout"))
    with dropout_switch(network).on(torch.arange(64)):
        values = layer.lora_dropout["default"](torch.ones(64, 128, 96))
    kept = (values != 0).double()
    assert abs(kept.mean() - 0.7) < 4 * math.sqrt(0.21 / kept.numel())
    assert abs(values.double().mean() - 1) < 0.005
    for mean, count in ((kept.mean((0, 1)), 64 * 128), (kept.mean((0, 2)), 64 * 96), (kept.mean((1, 2)), 128 * 96)):
        deviation = (mean - 0.7) / math.sqrt(0.21 / count)
        assert deviation.abs().max() < 5
        assert 0.7 < deviation.std() < 1.3
    flat = kept.flatten(1) - 0.7
    neighbours = [(flat[:, :-step] * flat[:, step:]).mean() / 0.21 for step in (1, 2, 96, 97)]
    neighbours.append((flat[:-1] * flat[1:]).mean() / 0.21)
    assert max(abs(value) for value in neighbours) < 5 / math.sqrt(flat.numel())


def test_dropout_is_off_until_it_is_switched_on() -> None:
    """A copy of the network has the same adapter without dropout; errors switch it off again."""
    network = network_of(replace(LORA, dropout=0.5), seed=2)
    plain = network_of(LORA, seed=2)
    with torch.no_grad():
        assert torch.equal(output(network), output(plain))
        with dropout_switch(network).on(torch.tensor([1, 2])):
            assert not torch.equal(output(network), output(plain))
        with pytest.raises(IndexError), dropout_switch(network).on(torch.tensor([1, 2])):
            _ = [][0]
        assert torch.equal(output(network), output(plain))
        assert torch.equal(output(copy.deepcopy(network)), output(plain))
