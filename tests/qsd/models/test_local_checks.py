"""What planning finds in a model's folder: the words of the stages, without torch, and no key moves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from torch import nn

from qsd.errors import UserError
from qsd.models.folder_checks import check_texts
from qsd.models.local_checks import check_resolution, check_targets, count_numbers, tensor_shapes
from tests.qsd import tiny_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[3]
EMOJI = ROOT / "experiments/emoji/assets/model"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline.save(folder)
    return folder


def test_the_headers_name_the_layers_of_the_network(folder: Path) -> None:
    """Every layer that peft may adapt is found, and no other: the check is as strict as that of stage train."""
    from diffusers import UNet2DConditionModel

    network = UNet2DConditionModel.from_pretrained(folder / "unet")
    layers = {name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    (file,) = (folder / "unet").glob("*.safetensors")
    shapes = tensor_shapes(file)
    assert {name.removesuffix(".weight") for name, shape in shapes.items() if len(shape) in (2, 4)} == layers
    assert count_numbers(file) == sum(parameter.numel() for parameter in network.parameters())


def test_a_target_of_no_layer_is_refused(folder: Path) -> None:
    check_targets(str(folder), ("to_q", "to_out.0", "conv_in"))
    with pytest.raises(UserError, match=r"no linear or convolution layer ends with 'to_nothing'; usual for Stable"):
        check_targets(str(folder), ("to_q", "to_nothing"))
    with pytest.raises(UserError, match=r"ends with 'norm1'"):
        check_targets(str(folder), ("norm1",))


def test_a_resolution_that_the_vae_cannot_have_is_refused(folder: Path) -> None:
    check_resolution(str(folder), tiny_pipeline.RESOLUTION)
    with pytest.raises(UserError, match=r"model\.resolution 34 is not a multiple of 4, the VAE's scale factor"):
        check_resolution(str(folder), 34)


def test_what_cannot_be_read_is_left_to_others(tmp_path: Path, folder: Path) -> None:
    check_targets("owner/name@main", ("to_nothing",))
    check_resolution(str(tmp_path), 63)
    (tmp_path / "model_index.json").write_bytes((folder / "model_index.json").read_bytes())
    check_resolution(str(tmp_path), 63)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "a.safetensors").write_text("damaged")
    check_targets(str(tmp_path), ("to_nothing",))


SWEEP = """\
question: Is it refused?
experiment: emoji
axes: {lora.rank: [4]}
baseline: {lora.rank: 4}
seeds: [0]
"""
PLAN = """\
import sys
from qsd.errors import UserError
from ablations.commands.planning import plan
try:
    plan(sys.argv[1])
except UserError as error:
    print(error)
print([name for name in ("torch", "diffusers", "peft", "safetensors") if name in sys.modules])
"""


def _without_vocabulary(folder: Path) -> str:
    (folder / "tokenizer" / "tokenizer.json").unlink()
    return str(folder)


def _without_tokenizer(folder: Path) -> str:
    shutil.rmtree(folder / "tokenizer")
    return str(folder)


def _of_another_class(folder: Path) -> str:
    (folder / "model_index.json").write_text('{"_class_name": "PixArtSigmaPipeline"}')
    return str(folder)


def _in_one_file(folder: Path) -> str:
    return str((folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "sd.safetensors"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_vocabulary, "no vocabulary: neither tokenizer.json nor vocab.json and merges.txt"),
        (_without_tokenizer, "tokenizer: the tokenizer is missing; copy or fetch the whole model again"),
        (_of_another_class, "names the pipeline PixArtSigmaPipeline, which is not supported"),
        (_in_one_file, "a single-file checkpoint; convert it to a folder with diffusers"),
    ],
)
def test_the_plan_refuses_a_model_with_a_hole_without_torch(
    tmp_path: Path, change: Callable[[Path], str], message: str
) -> None:
    path = change(Path(shutil.copytree(EMOJI, tmp_path / "model")))
    sweep = tmp_path / "tried.yaml"
    sweep.write_text(f"{SWEEP}overrides: {{model.path: {path}}}\n")
    command = [sys.executable, "-c", PLAN, str(sweep)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert message in done.stdout
    assert done.stdout.endswith("\n[]\n")


def test_a_downloaded_model_of_another_class_is_refused_by_its_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its data are decoded; the index lies in the hub's cache."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--someone--some-model" / "snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model_index.json").write_text('{"_class_name": "PixArtSigmaPipeline"}')
    with pytest.raises(UserError, match="names the pipeline PixArtSigmaPipeline"):
        check_texts(f"someone/some-model@{'c' * 40}")
    check_texts("someone/some-model@v2")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lora.targets: [to_nothing]", "no linear or convolution layer ends with 'to_nothing'"),
        ("model.resolution: 63", "model.resolution 63 is not a multiple of"),
        ("lora.rank: 4", "stages"),
    ],
)
def test_the_plan_refuses_it_without_torch(tmp_path: Path, override: str, message: str) -> None:
    sweep = tmp_path / "tried.yaml"
    sweep.write_text(SWEEP.replace("lora.rank: ", "training.steps: ") + f"overrides: {{{override}}}\n")
    command = [sys.executable, "-c", PLAN, str(sweep)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert message in done.stdout
    assert done.stdout.endswith("\n[]\n")


def test_a_downloaded_model_of_another_class_is_refused_by_its_hub_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the first stage that loads it, after the whole data set was read."""
    revision = "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
    folder = tmp_path / "models--owner--name" / "snapshots" / revision
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text('{"_class_name": "PixArtAlphaPipeline"}')
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"owner/name@451f.*PixArtAlphaPipeline, which is not supported"):
        check_resolution(f"owner/name@{revision}", 64)
    check_resolution("owner/another@main", 64)
