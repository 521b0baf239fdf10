"""SDXL: two text models, pooled text, time ids; and the precisions of its parts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline

from qsd.encoding.store import EMPTY_CAPTION_ROW, EncodedPairs
from qsd.errors import UserError
from qsd.files import read_table
from qsd.generation.images import read_images
from qsd.models.denoiser import load_denoiser
from qsd.models.encoders import load_image_encoder, load_text_encoder
from qsd.models.pipeline import load_pipeline
from qsd.models.precision import autocast_for
from qsd.stages.encode import run as encode
from qsd.stages.generate import run as generate
from tests.qsd import tiny_pipeline
from tests.qsd.stock import drawn

if TYPE_CHECKING:
    from pathlib import Path

    from tests.qsd.tiny_stages import TinyStages

CPU = torch.device("cpu")
CAPTIONS = ["", "a red heart", "a caption much longer than the sixteen tokens of the model"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny SDXL model."""
    return tiny_pipeline.save_xl(tmp_path_factory.mktemp("sdxl") / "model")


@pytest.fixture(scope="module")
def stock(folder: Path) -> Any:
    """The same as diffusers loads it."""
    return StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True, add_watermarker=False)


def test_captions_are_encoded_as_by_the_stock_pipeline(folder: Path, stock: Any) -> None:
    hidden, _, pooled, _ = stock.encode_prompt(CAPTIONS, device=CPU, do_classifier_free_guidance=False)
    ours = load_text_encoder(str(folder), CPU).conditioning(CAPTIONS)
    assert torch.equal(ours["hidden_states"], hidden)
    assert torch.equal(ours["pooled"], pooled)
    assert hidden.shape == (3, tiny_pipeline.MAX_TOKENS, 16 + 24)
    assert pooled.shape == (3, 20)


def test_all_fields_are_stored(world: TinyStages, folder: Path, stock: Any, tmp_path: Path) -> None:
    encoded = EncodedPairs(world.run(encode, tmp_path, model__path=str(folder)))
    pairs = read_table(world.artefacts["data"] / "pairs.parquet").to_pylist()
    _, rows = encoded.find([pairs[5]["pair_id"]])
    stored = encoded.conditioning(np.array([EMPTY_CAPTION_ROW, rows.caption[0]]))
    captions = ["", pairs[5]["caption"]]
    hidden, _, pooled, _ = stock.encode_prompt(captions, device=CPU, do_classifier_free_guidance=False)
    np.testing.assert_allclose(stored["hidden_states"], hidden.detach(), atol=1e-5)
    np.testing.assert_allclose(stored["pooled"], pooled.detach(), atol=1e-5)


def test_the_unet_is_told_size_and_crop(folder: Path, stock: Any) -> None:
    """As the stock pipeline tells it, which is where (R, R, 0, 0, R, R) comes from."""
    denoiser = load_denoiser(str(folder), CPU)
    conditioning = load_text_encoder(str(folder), CPU).conditioning(["one", "two"])
    noisy, timesteps = torch.randn(2, 4, 8, 8), torch.tensor([7, 900])

    def theirs(height: int, width: int) -> torch.Tensor:
        sizes = (height, width)
        ids = stock._get_add_time_ids(sizes, (0, 0), sizes, torch.float32, stock.text_encoder_2.config.projection_dim)
        added = {"text_embeds": conditioning["pooled"], "time_ids": ids.expand(2, -1)}
        output = stock.unet(noisy, timesteps, conditioning["hidden_states"], added_cond_kwargs=added).sample
        return output.detach()

    with torch.no_grad():
        ours = denoiser.predict(noisy, timesteps, conditioning)
    torch.testing.assert_close(ours, theirs(32, 32), rtol=0, atol=1e-6)
    assert (ours - theirs(64, 64)).abs().max() > 1e-5


@pytest.mark.slow
def test_guidance_leads_away_from_what_the_stock_pipeline_takes(world: TinyStages, tmp_path: Path) -> None:
    """Zeros, or the encoded empty text, as the model's folder says; the two give unlike images."""
    images = {}
    for zeros in (True, False):
        place = tiny_pipeline.save_xl(tmp_path / f"model {zeros}")
        index = json.loads((place / "model_index.json").read_text())
        (place / "model_index.json").write_text(json.dumps({**index, "force_zeros_for_empty_prompt": zeros}))
        settings = {"model__path": str(place), "generation__guidance_scale": 9, "evaluation__prompts_per_split": 1}
        ours = list(read_images(world.run(generate, tmp_path / f"images {zeros}", adapter="none", **settings)))
        stock = StableDiffusionXLPipeline.from_pretrained(place, local_files_only=True, add_watermarker=False)
        stock.scheduler = DDIMScheduler.from_config(stock.scheduler.config, clip_sample=False)
        theirs = drawn(stock, [(item.prompt_id, item.caption) for item in ours], 32, steps=3, guidance=9, seed=0)
        images[zeros] = [np.asarray(item.image, np.int16) for item in ours]
        assert max(np.abs(mine - other).max() for mine, other in zip(images[zeros], theirs, strict=True)) <= 1
    assert max(np.abs(one - other).max() for one, other in zip(images[True], images[False], strict=True)) > 1


def test_latents_are_never_clipped(folder: Path) -> None:
    """The folder's sampler says nothing of clipping, and DDIM's own default is to clip to [-1, 1]."""
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert "clip_sample" not in config
    assert DDIMScheduler.from_config(config).config.clip_sample
    assert not load_pipeline(str(folder), CPU).scheduler.config.clip_sample


def test_the_vae_in_bf16_is_near_fp32(folder: Path) -> None:
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    exact = load_image_encoder(str(folder), CPU).posterior(pixels)
    rounded = load_image_encoder(str(folder), CPU, "bf16").posterior(pixels)
    for one, other in zip(exact, rounded, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert 0 < (one - other).abs().max() < 0.05 * one.abs().max()


@pytest.mark.slow
def test_stages_compute_in_the_precision_that_they_are_told(world: TinyStages, folder: Path, tmp_path: Path) -> None:
    """bf16 changes latents and images a little; each of the two fields by itself."""
    settings = {"model__path": str(folder), "evaluation__prompts_per_split": 1, "adapter": "none"}
    stored = [
        EncodedPairs(world.run(encode, tmp_path / f"encode {name}", model__vae_precision=name, **settings))
        for name in ("fp32", "bf16")
    ]
    rows = np.arange(12)
    exact, rounded = (encoded.posterior(rows, np.zeros(12, dtype=bool))[0] for encoded in stored)
    assert 0 < np.abs(exact - rounded).max() < 0.05 * np.abs(exact).max()
    plain = list(read_images(world.run(generate, tmp_path / "fp32", **settings)))
    for field in ("model__vae_precision", "generation__precision"):
        other = list(read_images(world.run(generate, tmp_path / field, **settings, **{field: "bf16"})))
        apart = [
            np.abs(np.asarray(one.image, np.int16) - np.asarray(two.image, np.int16)).max()
            for one, two in zip(plain, other, strict=True)
        ]
        assert 0 < max(apart) < 24


def test_captions_are_encoded_in_fp32_where_the_unet_computes_in_bf16(folder: Path) -> None:
    """The loop that draws is in autocast, and captions are encoded inside it."""
    encoder = load_text_encoder(str(folder), CPU)
    plain = encoder.conditioning(CAPTIONS)
    with autocast_for("cpu", "bf16"):
        inside = encoder.conditioning(CAPTIONS)
    assert all(torch.equal(inside[field], plain[field]) for field in ("hidden_states", "pooled"))


def test_parts_of_a_pipeline_in_bf16(folder: Path) -> None:
    made = load_pipeline(str(folder), CPU, precision="bf16", vae_precision="bf16")
    assert made.unet.dtype == made.vae.dtype == torch.bfloat16
    assert made.text_encoder.dtype == made.text_encoder_2.dtype == torch.float32


def refused(folder: Path, file: str, changes: dict[str, Any], message: str) -> None:
    """A model whose settings in `file` are changed is refused by all loaders that read them."""
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**config, **changes}))
    loaders = {
        "model_index.json": (load_denoiser, load_text_encoder, load_pipeline),
        "scheduler/scheduler_config.json": (load_denoiser, load_pipeline),
        "vae/config.json": (load_image_encoder, load_pipeline),
    }
    for loader in loaders[file]:
        with pytest.raises(UserError, match=message):
            loader(str(folder), CPU)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        (
            "model_index.json",
            {"_class_name": "PixArtSigmaPipeline"},
            "PixArtSigmaPipeline, which is not supported; known: .*StableDiffusionPipeline, StableDiffusionXLPipeline",
        ),
        ("scheduler/scheduler_config.json", {"_class_name": "EDMEulerScheduler"}, "EDMEulerScheduler has no discrete"),
        ("vae/config.json", {"latents_mean": [0.0, 0.0, 0.0, 0.0]}, "channel by channel"),
    ],
)
def test_models_of_other_kinds_are_refused(tmp_path: Path, file: str, changes: dict[str, Any], message: str) -> None:
    refused(tiny_pipeline.save_xl(tmp_path / "model"), file, changes, message)


@pytest.mark.slow
def test_half_files_are_read_where_there_are_no_others(tmp_path: Path, folder: Path) -> None:
    place = tmp_path / "model"
    tiny_pipeline.pipeline_xl().to(torch.float16).save_pretrained(place, variant="fp16")
    assert (place / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    made, whole = load_pipeline(str(place), CPU), load_pipeline(str(folder), CPU)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        for mine, theirs in zip(getattr(made, part).parameters(), getattr(whole, part).parameters(), strict=True):
            assert mine.dtype == torch.float32
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6)
