"""FLUX.1: packing, ids, the guidance that dev gets, a shift that grows with the image; what is refused."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from diffusers import FluxPipeline

from qsd.errors import UserError
from qsd.models.denoiser import load_denoiser
from qsd.models.encoders import load_text_encoder
from qsd.models.families import family_in
from qsd.models.families.flux import FAMILY, GUIDANCE, packed, unpacked
from qsd.models.pipeline import load_pipeline
from qsd.models.whole import check_whole
from tests.qsd import tiny_flow
from tests.qsd.models.recorded import recorded

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

CPU = torch.device("cpu")
CAPTIONS = ["", "a red heart", "a caption much longer than the sixteen tokens of the model"]
RESOLUTION = 32


@pytest.fixture(scope="module", params=[True, False], ids=["dev", "schnell"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model."""
    return tiny_flow.save_flux(tmp_path_factory.mktemp("flux") / "model", dev=request.param)


@pytest.fixture(scope="module")
def stock(folder: Path) -> Any:
    """The same as diffusers loads it."""
    made = FluxPipeline.from_pretrained(folder, local_files_only=True)
    made.set_progress_bar_config(disable=True)
    return made


def latents(count: int) -> Tensor:
    """[count, 4, 6, 8]: wider than high, so that rows and columns cannot be mixed up."""
    return torch.randn(count, 4, 6, 8, generator=torch.Generator().manual_seed(count))


def test_packing_is_the_stock_pipelines() -> None:
    plain = latents(2)
    tokens = packed(plain)
    assert torch.equal(tokens, FluxPipeline._pack_latents(plain, 2, 4, 6, 8))
    assert torch.equal(unpacked(tokens, 3, 4), plain)
    assert torch.equal(unpacked(tokens, 3, 4), FluxPipeline._unpack_latents(tokens, 24, 32, 4))


def test_captions_are_encoded_as_by_the_stock_pipeline(folder: Path, stock: Any) -> None:
    with torch.no_grad():
        hidden, pooled, _ = stock.encode_prompt(CAPTIONS, device=CPU)
    ours = load_text_encoder(str(folder), CPU).conditioning(CAPTIONS)
    assert torch.equal(ours["t5"], hidden)
    assert torch.equal(ours["pooled"], pooled)
    assert hidden.shape == (3, 512, tiny_flow.T5_WIDTH)
    family = family_in(json.loads((folder / "model_index.json").read_text()), "a test")
    assert family.caption_numbers(folder) == sum(values[0].numel() for values in ours.values())
    assert family.caption_numbers(folder / "nowhere") == 512 * 4096 + 768
    check_whole(str(folder))


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_transformer_gets_what_the_stock_pipeline_gives_it(folder: Path, stock: Any, guidance: float) -> None:
    """Every input at every step, for an image that is not square; ``guidance`` is classifier-free guidance."""
    plain = latents(1)
    options: dict[str, Any] = {"true_cfg_scale": guidance, "negative_prompt": ""} if guidance > 1 else {}
    with recorded(stock.transformer) as theirs:
        stock(
            CAPTIONS[1],
            latents=packed(plain),
            height=24,
            width=32,
            num_inference_steps=3,
            output_type="latent",
            **options,
        )
    # The pipeline's shift is that of 12 tokens; the project's images are square, so the steps are taken from it.
    sigmas = stock.scheduler.sigmas.tolist()[:-1]
    denoiser = load_denoiser(str(folder), CPU)
    text = load_text_encoder(str(folder), CPU)
    order = [CAPTIONS[1], ""] if guidance > 1 else [CAPTIONS[1]]
    assert len(theirs) == 3 * len(order)
    with recorded(denoiser.network) as ours, torch.no_grad():
        for number, call in enumerate(theirs):
            noisy = unpacked(call["hidden_states"], 3, 4)
            sigma = torch.full((1,), sigmas[number // len(order)])
            conditioning = text.conditioning([order[number % len(order)]])
            velocity = denoiser.predict(noisy, sigma, conditioning)
            assert velocity.shape == noisy.shape
    for call, other in zip(ours, theirs, strict=True):
        assert call.keys() == other.keys() - {"joint_attention_kwargs"}
        for name, value in call.items():
            if name != "return_dict":
                assert torch.equal(value, other[name]), name
                assert value.dtype == other[name].dtype, name
    guidance = [3.5] if stock.transformer.config.guidance_embeds else None
    assert (ours[0]["guidance"].tolist() if guidance else ours[0].get("guidance")) == guidance


def test_the_shift_grows_with_the_image_as_in_the_stock_pipeline(folder: Path, stock: Any) -> None:
    """In sampling only: training takes its noise levels from the configuration."""
    side = RESOLUTION // 4
    tokens = packed(torch.zeros(1, 4, side, side))
    stock(CAPTIONS[1], latents=tokens, height=RESOLUTION, width=RESOLUTION, num_inference_steps=4, output_type="latent")
    process = load_denoiser(str(folder), CPU, resolution=RESOLUTION).process
    steps = process.sampling_times(4)
    assert [begin for begin, _ in steps] == stock.scheduler.sigmas[:-1].tolist()
    assert [end for _, end in steps] == stock.scheduler.sigmas[1:].tolist()
    larger = load_denoiser(str(folder), CPU, resolution=1024).process.sampling_times(4)
    assert (larger != steps) is stock.scheduler.config.use_dynamic_shifting


def test_without_a_size_a_growing_shift_is_not_sampled(folder: Path) -> None:
    process = load_denoiser(str(folder), CPU).process
    if json.loads((folder / "scheduler" / "scheduler_config.json").read_text())["use_dynamic_shifting"]:
        with pytest.raises(AssertionError, match="load for a size"):
            process.sampling_times(4)
    else:
        assert process.sampling_times(1) == [(1.0, 0.0)]


def test_the_guidance_is_the_stock_pipelines_default(folder: Path) -> None:
    import inspect

    assert inspect.signature(FluxPipeline.__call__).parameters["guidance_scale"].default == GUIDANCE
    assert not FAMILY.zero_negative_prompt({})
    assert load_pipeline(str(folder), CPU).transformer.config.guidance_embeds in (True, False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"_class_name": "DDIMScheduler"}, "DDIMScheduler is not of a flow-matching model"),
        ({"invert_sigmas": True}, "has invert_sigmas: True; not supported"),
        ({"use_dynamic_shifting": None}, "scheduler_config.json: use_dynamic_shifting missing"),
    ],
)
def test_schedules_of_other_processes_are_refused(
    folder: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    changed = shutil.copytree(folder, tmp_path / "model")
    file = changed / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    for loader in (load_denoiser, load_pipeline):
        with pytest.raises(UserError, match=message):
            loader(str(changed), CPU)


def test_a_resolution_must_be_whole_patches(folder: Path) -> None:
    config = json.loads((folder / "vae" / "config.json").read_text())
    assert FAMILY.latent_shape(config, RESOLUTION) == tiny_flow.LATENT_SHAPE
    with pytest.raises(UserError, match=r"model\.resolution 36 is not a multiple of 8, a patch of the network"):
        FAMILY.latent_shape(config, 36)
