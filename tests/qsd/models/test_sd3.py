"""SD3 and SD3.5: three text models, of which T5 may be left out; what the transformer gets; what is refused."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from qsd.errors import UserError
from qsd.models.denoiser import load_denoiser
from qsd.models.encoders import load_image_encoder, load_text_encoder
from qsd.models.families import family_in
from qsd.models.families.sd3 import FAMILY, joint_text
from qsd.models.folder_checks import check_model
from qsd.models.pipeline import load_pipeline, text_encoder_of
from qsd.models.whole import check_whole
from tests.qsd import tiny_flow
from tests.qsd.models.recorded import recorded

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")
CAPTIONS = ["", "a red heart", "a caption much longer than the sixteen tokens of the model"]
PUBLISHED_CAPTION = 77 * (768 + 1280) + (768 + 1280) + 256 * 4096


@pytest.fixture(scope="module", params=[True, False], ids=["with T5", "without T5"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model."""
    return tiny_flow.save_sd3(tmp_path_factory.mktemp("sd3") / "model", t5=request.param)


@pytest.fixture(scope="module")
def stock(folder: Path) -> Any:
    """The same as diffusers loads it, which must be asked to load no T5."""
    absent = {} if (folder / "text_encoder_3").is_dir() else {"text_encoder_3": None, "tokenizer_3": None}
    made = StableDiffusion3Pipeline.from_pretrained(folder, local_files_only=True, **absent)
    made.set_progress_bar_config(disable=True)
    return made


def test_captions_are_encoded_as_by_the_stock_pipeline(folder: Path, stock: Any) -> None:
    with torch.no_grad():
        hidden, negative, pooled, _ = stock.encode_prompt(CAPTIONS, None, None, device=CPU)
    ours = load_text_encoder(str(folder), CPU).conditioning(CAPTIONS)
    has_t5 = stock.text_encoder_3 is not None
    assert sorted(ours) == ["clip", "pooled", *(["t5"] if has_t5 else [])]
    assert torch.equal(joint_text(ours, tiny_flow.T5_WIDTH), hidden)
    assert torch.equal(ours["pooled"], pooled)
    assert hidden.shape == (3, 16 + 256, tiny_flow.T5_WIDTH)
    assert hidden[:, 16:].any() == has_t5, "zeros take the place of T5"
    assert torch.equal(joint_text(ours, tiny_flow.T5_WIDTH)[:1], negative[:1]), "the negative prompt is the empty one"
    assert not FAMILY.zero_negative_prompt(stock.config)


def test_a_model_may_have_fewer_tokens_of_t5(tmp_path: Path) -> None:
    """Its tokenizer says how many; the stock pipeline takes the same number as ``max_sequence_length``."""
    made = tiny_flow.sd3()
    made.tokenizer_3.model_max_length = 12
    made.save_pretrained(tmp_path, safe_serialization=True)
    stock = StableDiffusion3Pipeline.from_pretrained(tmp_path, local_files_only=True)
    with torch.no_grad():
        hidden, _, _, _ = stock.encode_prompt(CAPTIONS, None, None, device=CPU, max_sequence_length=12)
    ours = load_text_encoder(str(tmp_path), CPU).conditioning(CAPTIONS)
    assert torch.equal(joint_text(ours, tiny_flow.T5_WIDTH), hidden)
    assert ours["t5"].shape[1] == 12
    assert FAMILY.caption_numbers(tmp_path) == sum(values[0].numel() for values in ours.values())


def test_numbers_of_a_caption_are_those_that_are_stored(folder: Path, stock: Any) -> None:
    family = family_in(json.loads((folder / "model_index.json").read_text()), "a test")
    stored = load_text_encoder(str(folder), CPU).conditioning([""])
    assert family.caption_numbers(folder) == sum(values.numel() for values in stored.values())
    assert family.caption_numbers(folder / "nowhere") == PUBLISHED_CAPTION


def test_the_transformer_gets_what_the_stock_pipeline_gives_it(folder: Path, stock: Any) -> None:
    """Every input at every step of a sampling with guidance: latents, time, text and pooled text."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, *tiny_flow.LATENT_SHAPE, generator=generator)
    with recorded(stock.transformer) as theirs:
        stock(CAPTIONS[1], latents=latents, num_inference_steps=3, guidance_scale=4.0, output_type="latent")
    denoiser = load_denoiser(str(folder), CPU)
    steps = denoiser.process.sampling_times(3)
    text = load_text_encoder(str(folder), CPU)
    # One by one, as the pipeline encodes the negative prompt: another number of captions rounds differently.
    negative, positive = text.conditioning([""]), text.conditioning([CAPTIONS[1]])
    both = {field: torch.cat([negative[field], positive[field]]) for field in positive}
    with recorded(denoiser.network) as ours, torch.no_grad():
        for call, (sigma, _) in zip(theirs, steps, strict=True):
            denoiser.predict(call["hidden_states"], torch.full((2,), sigma), both)
    for call, other in zip(ours, theirs, strict=True):
        assert call.keys() == other.keys()
        for name in ("hidden_states", "timestep", "encoder_hidden_states", "pooled_projections"):
            assert torch.equal(call[name], other[name]), name
            assert call[name].dtype == other[name].dtype
    assert torch.equal(ours[0]["timestep"], torch.full((2,), 1000.0))


def test_latents_have_scale_and_shift(folder: Path) -> None:
    """As the stock pipeline takes them back before it decodes."""
    encoder = load_image_encoder(str(folder), CPU)
    pixels = torch.rand(1, 3, 32, 32) * 2 - 1
    mean, std = encoder.posterior(pixels)
    with torch.no_grad():
        raw = encoder.vae.encode(pixels).latent_dist
    torch.testing.assert_close(mean / 1.5 + 0.1, raw.mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(std / 1.5, raw.std, rtol=0, atol=1e-6)
    assert mean.shape[1:] == tiny_flow.LATENT_SHAPE


def test_the_folder_is_checked_for_the_parts_that_it_has(folder: Path) -> None:
    check_model(str(folder))
    check_whole(str(folder))
    has_t5 = (folder / "text_encoder_3").is_dir()
    family = family_in(json.loads((folder / "model_index.json").read_text()), "a test")
    assert ("text_encoder_3" in family.weight_folders) is has_t5
    assert len(text_encoder_of(load_pipeline(str(folder), CPU), CPU).towers) == (3 if has_t5 else 2)


@pytest.fixture
def changed(folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(folder, tmp_path / "model")


def change(file: Path, **settings: Any) -> None:
    """Change settings of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def test_a_clip_that_is_left_out_is_missed(changed: Path) -> None:
    """The stock pipeline cannot encode a caption without it."""
    change(changed / "model_index.json", text_encoder=[None, None], tokenizer=[None, None])
    shutil.rmtree(changed / "text_encoder")
    with pytest.raises(UserError, match="folder text_encoder is missing"):
        load_text_encoder(str(changed), CPU)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"_class_name": "DDIMScheduler"}, "DDIMScheduler is not of a flow-matching model"),
        ({"use_dynamic_shifting": True}, "has use_dynamic_shifting: True; not supported"),
        ({"stochastic_sampling": True}, "has stochastic_sampling: True; not supported"),
        ({"num_train_timesteps": 500}, "has 500 timesteps, and its network takes times of 0 to 1000"),
        ({"shift": None}, "scheduler_config.json: shift missing"),
    ],
)
def test_schedules_of_other_processes_are_refused(changed: Path, settings: dict[str, Any], message: str) -> None:
    change(changed / "scheduler" / "scheduler_config.json", **settings)
    for loader in (load_denoiser, load_pipeline):
        with pytest.raises(UserError, match=message):
            loader(str(changed), CPU)


def test_a_resolution_must_be_whole_patches(folder: Path) -> None:
    family = load_denoiser(str(folder), CPU).family
    config = json.loads((folder / "vae" / "config.json").read_text())
    assert family.latent_shape(config, 32) == tiny_flow.LATENT_SHAPE
    with pytest.raises(UserError, match=r"model\.resolution 36 is not a multiple of 8, a patch of the network"):
        family.latent_shape(config, 36)
    with pytest.raises(UserError, match=r"model\.resolution 34 is not a multiple of 4, the VAE's"):
        family.latent_shape(config, 34)
