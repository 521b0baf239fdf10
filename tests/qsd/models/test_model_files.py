"""What is fetched of a model's repository, and how a folder that lacks something is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub.utils import filter_repo_objects

from qsd.errors import UserError
from qsd.models.families import family_in
from qsd.models.files import check_folder, download, parts_without_weights

if TYPE_CHECKING:
    from collections.abc import Callable

XL = "StableDiffusionXLPipeline"
SMALL = (
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder_2/config.json",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "tokenizer_2/vocab.json",
    "unet/config.json",
    "vae/config.json",
)
PLAIN = (
    "text_encoder/model.safetensors",
    "text_encoder_2/model-00001-of-00002.safetensors",
    "text_encoder_2/model-00002-of-00002.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
)
HALF = (
    "text_encoder/model.fp16.safetensors",
    "text_encoder_2/model.fp16-00001-of-00001.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/diffusion_pytorch_model.fp16.safetensors",
)
OTHERS = (
    "README.md",
    "sd_xl_base_1.0.safetensors",
    "text_encoder/flax_model.msgpack",
    "text_encoder/openvino/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/model.onnx",
    "vae_1_0/config.json",
    "vae_1_0/diffusion_pytorch_model.safetensors",
)


def repository(folder: Path, *files: str, kind: str = XL) -> Path:
    """A repository with these files."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    folder.mkdir(exist_ok=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    return folder


def hub(remote: Path, local: Path) -> Callable[..., str]:
    """``snapshot_download`` of a repository on this disk, with the hub's own matching of patterns."""

    def snapshot(allow_patterns: list[str], ignore_patterns: list[str] | None = None) -> str:
        names = [path.relative_to(remote).as_posix() for path in remote.rglob("*") if path.is_file()]
        for name in filter_repo_objects(names, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (local / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(remote / name, local / name)
        return str(local)

    return snapshot


def fetched(tmp_path: Path, *files: str, kind: str = XL) -> set[str]:
    """What a download brings of a repository with these files."""
    remote, local = repository(tmp_path / "remote", *files, kind=kind), tmp_path / "local"
    assert download("someone/model", hub(remote, local)) == str(local)
    return {path.relative_to(local).as_posix() for path in local.rglob("*") if path.is_file()}


def test_only_what_is_read_is_fetched(tmp_path: Path) -> None:
    paths = fetched(tmp_path, *SMALL, *PLAIN, *HALF, *OTHERS)
    assert paths == {"model_index.json", *SMALL, *PLAIN}


def test_half_weights_are_fetched_for_parts_that_have_no_others(tmp_path: Path) -> None:
    plain = [name for name in PLAIN if not name.startswith("unet/")]
    paths = fetched(tmp_path, *SMALL, *plain, *HALF, *OTHERS)
    assert paths == {"model_index.json", *SMALL, *plain, "unet/diffusion_pytorch_model.fp16.safetensors"}


def test_a_pipeline_with_one_text_model_needs_one(tmp_path: Path) -> None:
    paths = fetched(tmp_path, *SMALL, *PLAIN, kind="StableDiffusionPipeline")
    assert not [name for name in paths if name.startswith(("text_encoder_2/", "tokenizer_2/"))]


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "text_encoder_2"])
def test_a_part_without_weights_is_named(tmp_path: Path, part: str) -> None:
    files = [name for name in (*SMALL, *PLAIN) if not (name in PLAIN and name.startswith(f"{part}/"))]
    folder = repository(tmp_path / "model", *files, f"{part}/weights.bin", f"{part}/weights.non_ema.safetensors")
    with pytest.raises(UserError, match=rf"no weights \(\*\.safetensors\) of {part}; fetch them"):
        check_folder(folder, "someone/model")
    check_folder(repository(tmp_path / "whole", *SMALL, *PLAIN), "someone/model")


def test_a_repository_without_safetensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"someone/model: no weights .* of unet, vae, text_encoder, text_encoder_2"):
        fetched(tmp_path, *SMALL, "unet/diffusion_pytorch_model.bin")


def test_another_kind_of_pipeline_is_refused_before_its_weights_are_fetched(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="names the pipeline PixArtSigmaPipeline, which is not supported"):
        fetched(tmp_path, *SMALL, *PLAIN, kind="PixArtSigmaPipeline")
    assert [path.name for path in (tmp_path / "local").rglob("*") if path.is_file()] == ["model_index.json"]


@pytest.mark.parametrize("content", ["", "[]", "{}"])
def test_a_damaged_index_is_a_clear_error(tmp_path: Path, content: str) -> None:
    folder = repository(tmp_path / "model", *SMALL, *PLAIN)
    (folder / "model_index.json").write_text(content)
    with pytest.raises(UserError, match=r"model_index\.json"):
        check_folder(folder, "someone/model")


def test_every_family_names_its_parts() -> None:
    family = family_in({"_class_name": XL}, "someone/model")
    assert parts_without_weights([], family) == ["unet", "vae", "text_encoder", "text_encoder_2"]
    assert set(family.folders) > {"tokenizer_2", "scheduler"}
