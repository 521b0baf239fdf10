"""A model with a hole is refused from its headers, with the message of the stage that would load it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from qsd.errors import UserError
from qsd.models.denoiser import load_denoiser
from qsd.models.encoders import load_image_encoder, load_text_encoder
from qsd.models.whole import check_whole
from tests.conftest import ROOT
from tests.qsd import tiny_pipeline
from tests.qsd.models.damages import rewrite

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")
LOADS: dict[str, Callable[[str], Any]] = {
    "unet/diffusion_pytorch_model.safetensors": lambda path: load_denoiser(path, CPU),
    "vae/diffusion_pytorch_model.safetensors": lambda path: load_image_encoder(path, CPU),
    "text_encoder/model.safetensors": lambda path: load_text_encoder(path, CPU),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline.save(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


def test_whole_models_and_what_is_no_folder_pass(whole: Path, tmp_path: Path) -> None:
    check_whole(str(whole))
    check_whole(str(tmp_path / "absent"))
    check_whole("someone/some-model@v1")


@pytest.mark.slow
def test_the_model_of_this_project_passes() -> None:
    check_whole(str(ROOT / "experiments" / "emoji" / "assets" / "model"))


def _drop(tensors: dict[str, Any]) -> None:
    del tensors[min(tensors)]


def _rename(tensors: dict[str, Any]) -> None:
    tensors[f"{min(tensors)}s"] = tensors.pop(min(tensors))


@pytest.mark.parametrize("change", [_drop, _rename])
@pytest.mark.parametrize("file", LOADS)
def test_a_hole_is_told_as_loading_tells_it(model: Path, file: str, change: Callable[[dict[str, Any]], None]) -> None:
    rewrite(model / file, change)
    with pytest.raises(UserError) as from_headers:
        check_whole(str(model))
    with pytest.raises(UserError) as from_loading:
        LOADS[file](str(model))
    assert str(from_headers.value) == str(from_loading.value)
    assert "tensors missing" in str(from_headers.value)


def test_another_shape_is_named(model: Path) -> None:
    def transpose(tensors: dict[str, Any]) -> None:
        tensors["conv_in.weight"] = tensors["conv_in.weight"][:8].clone()

    rewrite(model / "unet" / "diffusion_pytorch_model.safetensors", transpose)
    with pytest.raises(UserError, match=r"unet: 1 tensors of another shape \(conv_in.weight \[8, 4, 3, 3\] instead of"):
        check_whole(str(model))
