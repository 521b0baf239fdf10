"""What the cost model knows of a base model: its size, where it is on this machine; a guess, where it is not."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from ablations.cost import model_estimate
from ablations.cost.model_estimate import STARTUP_S, Machine, modelled_bytes, modelled_seconds
from ablations.cost.workload import Counts, work_of
from tests.ablations.flat_values import FLAT
from tests.qsd import tiny_pipeline

if TYPE_CHECKING:
    from pathlib import Path

GPU = Machine(gpu=True)
SD15: dict[str, Any] = {**FLAT, "model.path": "someone/sd15@v1", "model.resolution": 512}
SDXL: dict[str, Any] = {**FLAT, "model.path": "someone/sdxl@v1", "model.resolution": 1024}


@pytest.fixture(autouse=True)
def _no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache of downloads."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    model_estimate._folder.cache_clear()
    model_estimate._text_numbers.cache_clear()


def test_a_model_that_is_not_here_is_guessed_by_its_resolution() -> None:
    """SDXL's UNet has three times SD1.5's parameters, and four times the positions at 1024."""
    ratio = modelled_seconds("train", SDXL, 10**6, GPU) / modelled_seconds("train", SD15, 10**6, GPU)
    assert ratio == pytest.approx(4 * 2567 / 860, rel=0.01)
    latents = 2 * 2 * 4 * 4 * (1024 / 8) ** 2
    assert modelled_bytes("encode", SDXL, 1) == latents + 4 * (77 * 2048 + 1280)
    assert modelled_bytes("encode", SD15, 1) == latents / 4 + 4 * 77 * 768


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("stabilityai/stable-diffusion-3.5-medium@v1", 2_243_171_520),
        ("black-forest-labs/FLUX.1-dev@v1", 11_901_408_320),
        ("stabilityai/stable-diffusion-xl-base-1.0@v1", 860_000_000),
    ],
)
def test_a_published_flow_model_that_is_not_here_is_known_by_its_name(path: str, parameters: int) -> None:
    """Others are not: at 512 pixels they are taken for SD1.5."""
    assert modelled_bytes("train", {**SD15, "model.path": path}, 8) == pytest.approx(4e-3 * 4 * parameters)


def test_a_downloaded_model_is_counted(tmp_path: Path) -> None:
    made = tiny_pipeline.save_xl(tmp_path / "model")
    commit = tmp_path / "hub" / "models--someone--sdxl" / "snapshots" / ("c" * 40)
    shutil.copytree(made, commit)
    (commit.parents[1] / "refs").mkdir()
    (commit.parents[1] / "refs" / "v1").write_text("c" * 40)
    local = {**SDXL, "model.path": str(made)}
    for values in (SDXL, local):
        numbers = tiny_pipeline.MAX_TOKENS * (16 + 24) + 20
        assert modelled_bytes("encode", values, 1) == 2 * 2 * 4 * 4 * (1024 / 8) ** 2 + 4 * numbers
        parameters = sum(parameter.numel() for parameter in tiny_pipeline.pipeline_xl().unet.parameters())
        assert modelled_bytes("train", values, 8) == pytest.approx(4e-3 * 4 * parameters)


MEASURED = {
    ("sft", 16): 0.64,
    ("orpo", 16): 0.76,
    ("mapo", 16): 0.82,
    ("kto", 16): 1.07,
    ("kto", 8): 1.70,
    ("adaptive_dpo", 16): 1.89,
}
"""(loss, micro-batch) -> least CPU seconds of a step, over those of dpo with 16. Measured on experiments/emoji.yaml, 20
steps in fp32, one thread, on a busy machine."""


@pytest.mark.parametrize(("case", "measured"), MEASURED.items())
def test_a_loss_costs_what_its_passes_do(case: tuple[str, int], measured: float) -> None:
    """The bounds are wide: a small model spends much of its time beside the operations of its passes."""
    seconds = {}
    for name, micro_batch in (case, ("dpo", 16)):
        of_case = {"training.pairs_per_step": 16, "training.micro_batch": micro_batch, "loss.name": name}
        values = {**SD15, **of_case, "data.relabel": "scores"}  # no search for flips: the steps alone were measured
        seconds[name] = modelled_seconds(
            "train", values, work_of("train", values, Counts({("p", None, None): 10**4})).amount, GPU
        )
    ratio = (seconds[case[0]] - STARTUP_S) / (seconds["dpo"] - STARTUP_S)
    assert 0.7 < measured / ratio < 1.4


def test_a_reward_model_without_weights_costs_no_more_than_decoding(tmp_path: Path) -> None:
    """One whose weights are not on this machine is assumed to be large; one without weights is not."""
    cpu, values = Machine(gpu=False), {**SD15, "reward.weights": str(tmp_path)}
    formula = modelled_seconds("score", {**values, "reward.model": "jpeg_size"}, 1000, cpu)
    network = modelled_seconds("score", {**values, "reward.model": "hps_v2"}, 1000, cpu)
    decoding = 2 * 1000 / (model_estimate.IMAGES_PER_S * float(values["threads"]))
    assert formula == pytest.approx(STARTUP_S + decoding)
    assert network > 10 * formula


def test_images_in_bf16_are_cheaper_on_a_gpu() -> None:
    values = {**SDXL, "generation.batch_size": 4}
    half = modelled_seconds("generate", {**values, "generation.precision": "bf16"}, 10**5, GPU)
    assert half < 0.5 * modelled_seconds("generate", values, 10**5, GPU)
