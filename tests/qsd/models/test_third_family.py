"""A model family is one file: with one more of them, the stages run a model of another kind from pairs to images."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from ablations.cost.model_estimate import STARTUP_S, Machine, modelled_bytes, modelled_seconds
from qsd.errors import UserError
from qsd.generation.images import read_images
from qsd.models import families
from qsd.models.denoiser import load_denoiser
from qsd.models.files import check_folder
from qsd.runtime import Interrupted
from qsd.stages.encode import run as encode
from qsd.stages.generate import run as generate
from qsd.stages.train import run as train
from qsd.training.metrics import read_metrics
from qsd.training.offpolicy.batches import open_stream
from tests.ablations.flat_values import FLAT
from tests.qsd import tiny_pipeline, tiny_world
from tests.qsd.tiny_stages import TinyStages
from tests.qsd.training.onpolicy.onpolicy_world import settings_for

TARGETS = {"lora__targets": ["query", "value", "image_out"]}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module of the third family, added as a user would add it: one file among the families."""
    folder = tmp_path_factory.mktemp("families")
    shutil.copy(Path(__file__).with_name("toy_family.py"), folder / "toy.py")
    families.__path__.append(str(folder))
    importlib.invalidate_caches()
    yield importlib.import_module("qsd.models.families.toy")
    families.__path__.remove(str(folder))
    families.REGISTRY._imported.pop("toy", None)
    del sys.modules["qsd.models.families.toy"]


@pytest.fixture(scope="module")
def model(toy: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder: the toy's network beside the tiny VAE and text model."""
    folder = tmp_path_factory.mktemp("toy model")
    parts = tiny_pipeline.pipeline()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        toy.ToyTransformer().save_pretrained(folder / "transformer")
    for name in ("vae", "text_encoder", "tokenizer"):
        getattr(parts, name).save_pretrained(folder / name)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "ToyPipeline"}))
    return folder


@pytest.fixture(scope="module")
def toy_world(world: TinyStages, model: Path, tmp_path_factory: pytest.TempPathFactory) -> TinyStages:
    """The tiny world, encoded by the toy's model."""
    folder = tmp_path_factory.mktemp("encode")
    return world.with_inputs(encode=world.run(encode, folder, model__path=str(model)))


def files(folder: Path) -> dict[str, bytes]:
    """The artefact without its resumable state."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".state" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.slow
def test_a_third_family_is_trained_and_drawn_with(toy_world: TinyStages, model: Path, tmp_path: Path) -> None:
    """Encode, train, train again with a stop in between, generate with the adapter and without."""
    settings = {"model__path": str(model), "evaluation__prompts_per_split": 1, **TARGETS}
    recipe = {**settings, "training__learning_rate": 0.05, "training__caption_dropout": 0.3}
    uninterrupted = toy_world.run(train, tmp_path / "train", **recipe)

    # Stopped after two steps, and continued with the reference errors of a store.
    context = tiny_world.context(toy_world.config(**recipe), tmp_path / "resumed", **toy_world.artefacts)
    asked: list[None] = []

    def stopping() -> bool:
        asked.append(None)
        return len(asked) > 2

    with pytest.raises(Interrupted, match="stopped after 2 of 4 steps"):
        train.run(replace(context, stopping=stopping))
    train.run(replace(context, reference_errors=tmp_path / "reference"))
    assert files(tmp_path / "resumed") == files(uninterrupted)
    assert list((tmp_path / "reference").rglob("*.errors"))

    trained = toy_world.with_inputs(train=uninterrupted)
    drawn = {
        adapter: [
            np.asarray(item.image, np.int16)
            for item in read_images(trained.run(generate, tmp_path / adapter, adapter=adapter, **settings))
        ]
        for adapter in ("none", "trained")
    }
    assert len(drawn["none"]) == 2
    assert max(np.abs(one - two).max() for one, two in zip(drawn["none"], drawn["trained"], strict=True)) > 2
    card = (uninterrupted / "adapter" / "README.md").read_text()
    assert "ToyPipeline" in card


@pytest.mark.parametrize("name", ["tailorpo", "ddpo"])
def test_it_is_trained_on_its_own_samples(toy_world: TinyStages, model: Path, tmp_path: Path, name: str) -> None:
    """On-policy methods ask the family and the process for everything, too."""
    settings = settings_for(toy_world, name, model__path=str(model), lora__targets=["query", "value"])
    out = toy_world.with_inputs().run(train, tmp_path, **{**settings, "training__steps": 2})
    rows = read_metrics(out)
    assert [row["used"] for row in rows] == [1.0, 1.0]
    assert all(row["grad_norm"] > 0 for row in rows)
    assert "ToyPipeline" in (out / "adapter" / "README.md").read_text()


def test_its_errors_are_those_of_its_own_process(toy_world: TinyStages, model: Path) -> None:
    """Times are real numbers, and a network that predicts v exactly has error 0."""
    denoiser = load_denoiser(str(model), torch.device("cpu"))
    config = toy_world.config(model__path=str(model))
    batch = open_stream(toy_world.artefacts, config, denoiser.process).batch(0, 4, torch.device("cpu"))
    assert batch.timesteps.dtype == torch.float32
    assert torch.equal(batch.timesteps[:4], batch.timesteps[4:])
    assert 0 < float(batch.timesteps.min()) < float(batch.timesteps.max()) < 1
    noisy = denoiser.process.add_noise(batch.latents, batch.noise, batch.timesteps)
    velocity = denoiser.process.target(batch.latents, batch.noise, batch.timesteps)
    torch.testing.assert_close(denoiser.process.x0(noisy, velocity, batch.timesteps), batch.latents, rtol=0, atol=1e-5)
    assert denoiser.predict(noisy, batch.timesteps, batch.conditioning).shape == noisy.shape


def test_a_plan_takes_its_own_figures(model: Path) -> None:
    values = {**FLAT, "model.path": str(model), "model.resolution": 64, "training.flip": False}
    assert modelled_bytes("encode", values, 1) == 2 * 2 * 4 * (4 * 16**2) + 4 * 7
    weights = sum(tensor.numel() for tensor in load_denoiser(str(model), torch.device("cpu")).network.parameters())
    assert modelled_bytes("train", values, 8) == pytest.approx(4e-3 * 4 * weights)
    flop = 2.0 * weights * (64 / 8) ** 2
    seconds = modelled_seconds("generate", values, 10**9, Machine(gpu=False)) - STARTUP_S
    assert seconds == pytest.approx(10**9 * flop / 2e10)


def test_its_folder_is_checked_for_its_own_parts(model: Path, tmp_path: Path) -> None:
    check_folder(model, "someone/toy")
    copy = shutil.copytree(model, tmp_path / "model")
    shutil.rmtree(copy / "transformer")
    with pytest.raises(UserError, match=r"no weights .* of transformer; fetch them"):
        check_folder(copy, "someone/toy")


def test_targets_of_another_family_are_refused(toy_world: TinyStages, model: Path, tmp_path: Path) -> None:
    message = r"no linear or convolution layer ends with 'to_q'.*; usual for ToyPipeline: query, key, value"
    with pytest.raises(UserError, match=message):
        toy_world.run(train, tmp_path, model__path=str(model))
    with pytest.raises(UserError, match=r"'qurey' \(did you mean 'query'\?\)"):
        toy_world.run(train, tmp_path, model__path=str(model), lora__targets=["value", "qurey"])


def test_without_its_file_the_model_is_refused_by_name(
    toy: ModuleType, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = families.REGISTRY.names()
    assert "toy" in names
    monkeypatch.setattr(families.REGISTRY, "names", lambda: [name for name in names if name != "toy"])
    known = "FluxPipeline, StableDiffusion3Pipeline, StableDiffusionPipeline, StableDiffusionXLPipeline"
    message = rf"ToyPipeline, which is not supported \(did you mean 'FluxPipeline'\?\); known: {known}$"
    with pytest.raises(UserError, match=message):
        load_denoiser(str(model), torch.device("cpu"))
