"""Loading a model, and the adapter that a stock diffusers pipeline reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import inject_adapter_in_model
from safetensors import safe_open

from qsd.config.schema import LoraConfig
from qsd.errors import UserError
from qsd.models.adapter import add_adapter, effective_alpha, peft_config, save_adapter
from qsd.models.denoiser import load_denoiser
from qsd.models.encoders import load_text_encoder
from qsd.models.families.stable_diffusion import FAMILY
from qsd.models.pipeline import latent_shape, load_pipeline
from tests.qsd import tiny_pipeline
from tests.qsd.tiny_stages import trainer

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from qsd.training.engine import Engine
    from qsd.training.offpolicy.method import PairsMethod
    from tests.qsd.tiny_stages import TinyStages

CPU = torch.device("cpu")
ALL_LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "conv1", "conv2", "proj_in"]


def forward(made: Engine[PairsMethod], unet: object) -> Tensor:
    """One prediction of a UNet on the first pairs."""
    batch = made.method.stream.batch(0, 2, CPU)
    with torch.no_grad():
        output: Tensor = unet(batch.latents, batch.timesteps, batch.conditioning["hidden_states"]).sample  # type: ignore[operator]
    return output


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [None, 1.0, 8.0])
def test_a_stock_pipeline_loads_the_adapter(world: TinyStages, tmp_path: Path, alpha: float | None) -> None:
    """With alpha unlike rank too: the scale is in the file's metadata."""
    made = trainer(world, lora__rank=4, lora__alpha=alpha, lora__targets=ALL_LAYERS, training__learning_rate=1e-2)
    for step in range(3):
        made.step(step)
    save_adapter(tmp_path, made.method.denoiser.network, made.method.config.lora, FAMILY)
    stock = StableDiffusionPipeline.from_pretrained(world.root / "model", local_files_only=True)
    base = forward(made, stock.unet)
    stock.load_lora_weights(tmp_path)
    ours = forward(made, made.method.denoiser.network)
    torch.testing.assert_close(forward(made, stock.unet), ours, rtol=0, atol=1e-6)
    assert (ours - base).abs().max() > 1e-3
    merged = load_pipeline(str(world.root / "model"), CPU, tmp_path)
    torch.testing.assert_close(forward(made, merged.unet), ours, rtol=1e-4, atol=1e-5)
    assert not any("lora" in name for name, _ in merged.unet.named_parameters())


@pytest.mark.slow
def test_the_adapters_file_is_deterministic_and_says_no_path(world: TinyStages, tmp_path: Path) -> None:
    files = []
    for place in ("a", "b"):
        made = trainer(world, lora__targets=ALL_LAYERS)
        # Many times: left alone, safetensors orders the metadata by chance.
        network, lora = made.method.denoiser.network, made.method.config.lora
        files.extend(save_adapter(tmp_path / f"{place}{n}", network, lora, FAMILY) for n in range(8))
    assert len({file.read_bytes() for file in files}) == 1
    with safe_open(files[0], framework="pt") as stored:
        metadata = json.loads(stored.metadata()["lora_adapter_metadata"])
        assert all(name.startswith("unet.") and name.endswith(".weight") for name in stored.keys())  # noqa: SIM118
    assert metadata == {"unet.r": 2, "unet.lora_alpha": 2.0, "unet.target_modules": sorted(ALL_LAYERS)}


@pytest.mark.slow
def test_the_adapters_start_is_a_function_of_the_seed(world: TinyStages) -> None:
    def start(seed: int) -> Tensor:
        unet = tiny_pipeline.unet()
        parameters = add_adapter(unet, world.config().lora, seed, FAMILY)
        return torch.cat([value.flatten() for value in parameters.values()])

    first = start(3)
    torch.rand(1)
    assert torch.equal(start(3), first)
    assert not torch.equal(start(4), first)


def _step_sizes(scaling: str) -> list[float]:
    """Root mean square of what one AdamW step adds to a layer's weights, at ranks 2, 8, 32 and 128."""
    sizes = []
    for rank in (2, 8, 32, 128):
        layer = torch.nn.ModuleDict({"to_q": torch.nn.Linear(256, 256, bias=False)})
        torch.manual_seed(0)
        lora = LoraConfig(rank=rank, scaling=scaling, targets=["to_q"])
        inject_adapter_in_model(peft_config(lora), layer)
        a, b = layer["to_q"].lora_A["default"].weight, layer["to_q"].lora_B["default"].weight
        optimiser = torch.optim.AdamW([a, b], lr=1e-3, weight_decay=0)
        layer["to_q"](torch.randn(64, 256)).square().mean().backward()
        optimiser.step()
        scale = effective_alpha(lora) / rank
        sizes.append(float((scale * b @ a).detach().square().mean().sqrt()))
    return sizes


def test_equal_step_moves_the_weights_equally_far_at_every_rank() -> None:
    plain, equal = _step_sizes("plain"), _step_sizes("equal_step")
    assert equal == pytest.approx([equal[0]] * 4, rel=0.15)
    assert [size / plain[0] for size in plain] == pytest.approx([1, 1 / 2, 1 / 4, 1 / 8], rel=0.15)  # 1 / sqrt(rank)


def test_the_scales_of_both_ways_agree_at_rank_16() -> None:
    for alpha in (None, 4.0):
        scales = {effective_alpha(LoraConfig(rank=16, alpha=alpha, scaling=way)) for way in ("plain", "equal_step")}
        assert scales == {16.0 if alpha is None else alpha}
    assert effective_alpha(LoraConfig(rank=4, scaling="equal_step")) == 2.0


def test_half_weights_become_fp32(tmp_path: Path) -> None:
    folder = str(tiny_pipeline.save(tmp_path / "half", half=True))
    made = load_pipeline(folder, CPU)
    for module in (made.unet, made.vae, made.text_encoder, load_denoiser(folder, CPU).network):
        assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert load_denoiser(folder, CPU, "bf16").network.dtype == torch.bfloat16


def test_captions_are_encoded_as_by_the_stock_pipeline(world: TinyStages) -> None:
    captions = ["", "a red heart", "a caption much longer than the sixteen tokens of the model"]
    stock = StableDiffusionPipeline.from_pretrained(world.root / "model", local_files_only=True)
    theirs, _ = stock.encode_prompt(captions, CPU, 1, do_classifier_free_guidance=False)
    ours = load_text_encoder(str(world.root / "model"), CPU).conditioning(captions)["hidden_states"]
    assert torch.equal(ours, theirs)


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model_index\.json is missing"):
        load_denoiser(str(tmp_path), CPU)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    folder = tiny_pipeline.save(tmp_path / "model")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot load its unet"):
        load_denoiser(str(folder), CPU)


def test_an_unknown_prediction_type_is_refused(tmp_path: Path) -> None:
    folder = tiny_pipeline.save(tmp_path / "model", "sample")
    with pytest.raises(UserError, match="'sample' is not supported"):
        load_denoiser(str(folder), CPU)


def test_a_missing_adapter_is_named(world: TinyStages, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the adapter is missing"):
        load_pipeline(str(world.root / "model"), CPU, tmp_path)


def test_the_resolution_must_fit_the_vae(world: TinyStages) -> None:
    made = load_pipeline(str(world.root / "model"), CPU)
    assert latent_shape(made, 32) == tiny_pipeline.LATENT_SHAPE
    with pytest.raises(UserError, match="33 is not a multiple of 4"):
        latent_shape(made, 33)
