"""How a model's family is found, and what the families may import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qsd.errors import UserError
from qsd.models.families import families, family_in, family_named
from tests.conftest import ROOT

SD, XL = "StableDiffusionPipeline", "StableDiffusionXLPipeline"
SD3, FLUX = "StableDiffusion3Pipeline", "FluxPipeline"
KNOWN = f"{FLUX}, {SD3}, {SD}, {XL}"


def test_a_family_is_found_by_the_class_in_the_index() -> None:
    assert [family.pipeline for family in families()] == KNOWN.split(", ")
    assert family_in({"_class_name": XL}, "someone/model").pipeline == XL


@pytest.mark.parametrize(
    ("name", "near"),
    [("StableDifusionPipeline", SD), ("StableDiffusion3PAGPipeline", SD3), ("stablediffusionpipeline", SD)],
)
def test_a_similar_name_is_refused_and_the_near_one_named(name: str, near: str) -> None:
    """Never taken for it: the pipelines of diffusers have similar names and nothing else in common."""
    message = rf"model\.path someone/model: model_index\.json names the pipeline {name}, which is not supported"
    with pytest.raises(UserError, match=rf"{message} \(did you mean '{near}'\?\); known: {KNOWN}$"):
        family_in({"_class_name": name}, "someone/model")


@pytest.mark.parametrize("index", [{}, {"_class_name": None}, {"_class_name": "PixArtSigmaPipeline"}])
def test_other_classes_are_refused_with_the_known_ones(index: dict[str, object]) -> None:
    with pytest.raises(UserError, match=rf"which is not supported; known: {KNOWN}$"):
        family_in(index, "someone/model")


def test_two_families_do_not_share_a_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    known = families()
    assert [family_named(family.pipeline, "a test") for family in known] == known
    own = type("Own", (type(family_named(SD, "a test")),), {"__module__": "qsd.models.families.own"})()
    monkeypatch.setattr("qsd.models.families.families", lambda: [*known, own])
    message = f"^qsd.models.families.stable_diffusion and qsd.models.families.own are both for {SD}; a pipeline's class"
    with pytest.raises(UserError, match=message):
        family_named(XL, "a test")


def test_a_plan_asks_the_families_without_heavy_libraries() -> None:
    """What the cost model and the checks of a folder import, and every family's file."""
    code = (
        "import sys, ablations.cost.model_estimate, qsd.models.files; from qsd.models.families import families; "
        "families(); heavy = ('torch', 'diffusers', 'transformers', 'peft'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_but_a_family_and_its_process_names_the_classes_of_a_model() -> None:
    """The seam: a base model of another kind is added beside the families, not in the code that asks them."""
    classes = (
        *("UNet2DConditionModel", "DDPMScheduler", "DDIMScheduler", "StableDiffusion", "CLIPTextModel"),
        *("SD3Transformer2DModel", "FluxTransformer2DModel", "FlowMatchEuler", "T5EncoderModel"),
    )
    allowed = {
        Path("qsd/models/process.py"),
        Path("qsd/models/flow_process.py"),
        *(path.relative_to(ROOT) for path in (ROOT / "qsd/models/families").glob("*")),
    }
    naming = {
        path.relative_to(ROOT)
        for package in ("models", "encoding", "generation", "training", "reference", "adaptive", "adapters", "stages")
        for path in (ROOT / "qsd" / package).rglob("*.py")
        if any(name in path.read_text() for name in classes)
    }
    assert naming - allowed == set()
