"""A model that is not whole is refused by name, before it draws other images or fails somewhere else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from qsd.errors import UserError
from qsd.models.denoiser import load_denoiser
from qsd.models.encoders import load_image_encoder, load_text_encoder
from qsd.models.folder_checks import check_model, check_texts
from qsd.models.pipeline import load_pipeline
from tests.conftest import ROOT
from tests.qsd import tiny_pipeline
from tests.qsd.models.damages import LFS, edit, rewrite

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")
EMOJI = ROOT / "experiments" / "emoji" / "assets" / "model"
UNET, VAE = (Path(part) / "diffusion_pytorch_model.safetensors" for part in ("unet", "vae"))
TEXT = Path("text_encoder") / "model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline.save(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


def load(model: Path) -> Any:
    """Everything that stages load of a model."""
    load_denoiser(str(model), CPU)
    return load_pipeline(str(model), CPU)


def _poison(tensors: dict[str, Any]) -> None:
    tensors[min(tensors)].view(-1)[-1] = torch.nan


def _overflow(tensors: dict[str, Any]) -> None:
    tensors[max(tensors)].view(-1)[0] = -torch.inf


def _reshape(tensors: dict[str, Any]) -> None:
    tensors[min(tensors)] = torch.zeros(1, 2)


def _count(tensors: dict[str, Any]) -> None:
    tensors[min(tensors)] = tensors[min(tensors)].int()


@pytest.mark.parametrize("file", [UNET, VAE, TEXT])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(min(tensors)), r"{part}: 1 tensors missing \({first}\)"),
        (
            lambda tensors: [tensors.pop(name) for name in sorted(tensors)[1:]],
            r"{part}: \d+ tensors missing \(.* more\)",
        ),
        (lambda tensors: tensors.update(surplus=torch.zeros(2)), r"{part}: 1 tensors unexpected \(surplus\)"),
        (_poison, r"{part}: 1 tensors have NaN or infinite numbers \({first}\)"),
        (_overflow, r"{part}: 1 tensors have NaN or infinite numbers"),
        (_reshape, "{part}.*{first}"),
        (_count, r"1 tensors are I32 instead of plain floating point \({first}\)"),
    ],
)
def test_weights_that_are_not_the_networks_own_are_named(
    model: Path, file: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    first = min(load_file(model / file)).removeprefix("text_model.")
    rewrite(model / file, change)
    with pytest.raises(UserError, match=message.format(part=file.parent, first=f".*{first}")) as raised:
        load(model)
    assert "\n" not in str(raised.value)


def test_damaged_weights_are_not_replaced_by_their_halves(model: Path) -> None:
    shutil.copy(model / UNET, model / UNET.with_name("diffusion_pytorch_model.fp16.safetensors"))
    rewrite(model / UNET, lambda tensors: tensors.pop("conv_in.weight"))
    with pytest.raises(UserError, match=r"unet: .*conv_in\.weight"):
        load_denoiser(str(model), CPU)
    (model / UNET).unlink()
    load_denoiser(str(model), CPU)


def test_what_old_versions_of_the_libraries_stored_is_no_mistake(model: Path) -> None:
    """Position ids of text models, and the VAE's attention under the names of the published Stable Diffusion 1.5."""
    rewrite(model / TEXT, lambda tensors: tensors.update({_POSITIONS: torch.arange(16)[None]}))
    load_text_encoder(str(model), CPU)
    vae = AutoencoderKL(**{**tiny_pipeline.vae().config, "mid_block_add_attention": True})
    vae.save_pretrained(model / "vae")
    weights = load_image_encoder(str(model), CPU).vae.state_dict()
    rewrite(model / VAE, _old_names)
    assert any(".query." in name for name in load_file(model / VAE))
    again = load_image_encoder(str(model), CPU).vae.state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights)


_POSITIONS = "text_model.embeddings.position_ids"


def _old_names(tensors: dict[str, Any]) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for name in list(tensors):
        for new, before in old.items():
            if f".{new}." in name:
                tensors[name.replace(f".{new}.", f".{before}.")] = tensors.pop(name)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            lambda folder: (folder / "tokenizer" / "tokenizer.json").unlink(),
            "no vocabulary: neither tokenizer.json nor",
        ),
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "tokenizer.* is missing"),
        (
            lambda folder: edit(folder / "tokenizer/tokenizer.json", _cut_vocabulary),
            r"\d+ tokens .*embedding has 3311 rows",
        ),
        (lambda folder: edit(folder / "tokenizer/tokenizer.json", _without_one), r"3310 tokens with ids up to 3310"),
        (lambda folder: edit(folder / "tokenizer/tokenizer.json", _without_merges), "no merges lead to .* such as"),
        (lambda folder: edit(folder / "text_encoder/config.json", _fewer_rows), "ids up to 3310, .* has 3000 rows"),
    ],
)
def test_a_tokenizer_that_is_not_the_text_models_is_refused(
    tmp_path: Path, break_it: Callable[[Path], object], message: str
) -> None:
    """At load, and by what planning and doctor call, which loads no torch (``test_local_checks``)."""
    folder = Path(shutil.copytree(EMOJI, tmp_path / "model"))
    check_texts(str(folder))
    break_it(folder)
    check_texts.cache_clear()
    for check in (check_texts, check_model, lambda path: load_text_encoder(path, CPU)):
        with pytest.raises(UserError, match=message):
            check(str(folder))


def _cut_vocabulary(content: Any) -> None:
    words = sorted(content["model"]["vocab"].items(), key=lambda item: item[1])
    content["model"] |= {"vocab": dict(words[:600]), "merges": []}


def _without_one(content: Any) -> None:
    del content["model"]["vocab"][sorted(content["model"]["vocab"])[700]]


def _without_merges(content: Any) -> None:
    content["model"]["merges"] = []


def _fewer_rows(content: Any) -> None:
    content["vocab_size"] = 3000


def test_vocabulary_files_of_published_models_are_read(model: Path) -> None:
    """``vocab.json`` and ``merges.txt``, as Stable Diffusion has them, in place of ``tokenizer.json``."""
    import json

    content = json.loads((model / "tokenizer" / "tokenizer.json").read_text())
    (model / "tokenizer" / "tokenizer.json").unlink()
    words = {**content["model"]["vocab"], **{entry["content"]: entry["id"] for entry in content["added_tokens"]}}
    (model / "tokenizer" / "vocab.json").write_text(json.dumps(words))
    with pytest.raises(UserError, match=r"neither tokenizer\.json nor merges\.txt"):
        check_model(str(model))
    (model / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    check_model(str(model))


@pytest.mark.parametrize(
    ("file", "setting", "message"),
    [
        ("scheduler/scheduler_config.json", "beta_schedule", "beta_schedule missing"),
        ("unet/config.json", "norm_num_groups", "norm_num_groups missing"),
        ("vae/config.json", "block_out_channels", "block_out_channels missing"),
        ("text_encoder/config.json", "hidden_act", "hidden_act missing"),
        ("tokenizer/tokenizer_config.json", "model_max_length", "text_encoder has 16 positions"),
    ],
)
def test_a_setting_whose_default_is_another_models_is_missed(
    model: Path, file: str, setting: str, message: str
) -> None:
    edit(model / file, lambda content: content.pop(setting))
    with pytest.raises(UserError, match=message):
        load(model)


@pytest.mark.parametrize(
    ("file", "setting", "value", "message"),
    [
        ("scheduler/scheduler_config.json", "set_alpha_to_one", [[1]], "it must be true or false"),
        ("unet/config.json", "mid_block_scale_factor", {}, "it must be a number"),
        ("tokenizer/tokenizer_config.json", "model_max_length", -1, "model_max_length is -1"),
    ],
)
def test_a_setting_of_another_type_is_refused(model: Path, file: str, setting: str, value: Any, message: str) -> None:
    edit(model / file, lambda content: content.update({setting: value}))
    with pytest.raises(UserError, match=message):
        load(model)


def test_sdxl_must_state_the_scale_of_its_latents(tmp_path: Path) -> None:
    folder = tiny_pipeline.save_xl(tmp_path / "model")
    check_model(str(folder))
    check_model.cache_clear()
    edit(folder / "vae" / "config.json", lambda content: content.pop("scaling_factor"))
    with pytest.raises(UserError, match="scaling_factor missing"):
        check_model(str(folder))


def test_a_folder_that_is_gone_is_not_asked_of_the_hub(tmp_path: Path) -> None:
    """The message was that huggingface.co cannot be reached."""
    with pytest.raises(UserError, match=r"model\.path .*/gone: no such folder; put it there, or set model\.path"):
        load_pipeline(str(tmp_path / "gone"), CPU)


def test_an_adapter_in_a_text_models_folder_asks_no_hub(model: Path) -> None:
    """transformers would load the model that the adapter names."""
    (model / "text_encoder" / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    with pytest.raises(UserError, match=r"has an adapter_config\.json"):
        load(model)


def test_a_checkpoint_in_one_file_is_told_how_to_be_converted(tmp_path: Path, model: Path) -> None:
    file = tmp_path / "v1-5-pruned.safetensors"
    shutil.copy(model / UNET, file)
    for check in (check_texts, check_model, lambda path: load_denoiser(path, CPU)):
        with pytest.raises(
            UserError, match=r"a single-file checkpoint; convert it .*from_single_file\(FILE\).* being Flux"
        ):
            check(str(file))


def test_a_pointer_in_place_of_any_settings_is_called_one(whole: Path, tmp_path: Path) -> None:
    """A clone without git-lfs, where someone tracked JSON files as well."""
    for number, file in enumerate(sorted(whole.rglob("*.json"))):
        copy = Path(shutil.copytree(whole, tmp_path / str(number)))
        damaged = copy / file.relative_to(whole)
        damaged.write_bytes(LFS)
        with pytest.raises(UserError, match="git-lfs pointer") as raised:
            check_model(str(copy))
        assert str(damaged) in str(raised.value)
