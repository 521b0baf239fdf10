"""Samplers beside a model's own: those of the stock pipelines, in fp32; and which of them fit a model."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import diffusers
import pytest
import torch

from qsd.config.schema import SAMPLERS
from qsd.errors import UserError
from qsd.models.families import MODEL_SAMPLER, families
from qsd.models.pipeline import load_pipeline, pipeline_family, text_encoder_of
from qsd.models.precision import autocast_for
from tests.qsd import tiny_flow, tiny_pipeline
from tests.qsd.models.recorded import recorded

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
CAPTION = "a red heart"
SAVE: dict[str, Any] = {
    "sd": tiny_pipeline.save,
    "sdxl": tiny_pipeline.save_xl,
    "sd3": tiny_flow.save_sd3,
    "flux": tiny_flow.save_flux,
}
STOCK: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
}
"""What a user of diffusers puts into a pipeline."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The folder of a tiny model of each kind."""
    return {kind: str(save(tmp_path_factory.mktemp(kind) / "model")) for kind, save in SAVE.items()}


def start() -> Tensor:
    return torch.randn(2, *tiny_pipeline.LATENT_SHAPE, generator=torch.Generator().manual_seed(0))


def drawn(path: str, sampler: str, steps: int, guidance: float = 2.0, precision: str = "fp32") -> Tensor:
    """Clean latents by this project."""
    pipeline = load_pipeline(path, CPU, precision=precision, sampler=sampler)
    with torch.no_grad(), autocast_for("cpu", precision):
        return sample(pipeline, steps, guidance)


def sample(pipeline: Any, steps: int, guidance: float) -> Tensor:
    text = text_encoder_of(pipeline, CPU)
    negative, positive = text.conditioning(["", ""]), text.conditioning([CAPTION] * 2)
    return pipeline_family(pipeline).sample(pipeline, start(), positive, negative, steps, guidance, 32)


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
@pytest.mark.parametrize("sampler", STOCK)
def test_a_stock_pipeline_with_the_same_scheduler_draws_the_same(
    models: dict[str, str], kind: str, sampler: str
) -> None:
    """With the model's own noise schedule, spacing of timesteps and kind of prediction."""
    pipeline = load_pipeline(models[kind], CPU)
    name, options = STOCK[sampler]
    pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config, **options)
    with torch.no_grad():
        theirs = sample(pipeline, 5, 2.0)
    assert torch.equal(drawn(models[kind], sampler, 5), theirs)


def test_euler_is_ddim_where_both_end_at_clean_latents(models: dict[str, str]) -> None:
    """Two ways to write one step; docs/base_models.md says so. The solvers are others."""
    own = drawn(models["sdxl"], MODEL_SAMPLER, 5)
    torch.testing.assert_close(drawn(models["sdxl"], "euler", 5), own, rtol=1e-4, atol=1e-4)
    for sampler in ("dpmpp_2m", "dpmpp_2m_karras"):
        assert (drawn(models["sdxl"], sampler, 5) - own).abs().max() > 1e-2
    # This one's folder says set_alpha_to_one: false, so DDIM's last step ends before.
    assert (drawn(models["sd"], "euler", 5) - drawn(models["sd"], MODEL_SAMPLER, 5)).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["sd3", "flux"])
def test_the_solver_for_flow_matching_ends_at_the_same_images(models: dict[str, str], kind: str) -> None:
    """It solves the equation that the model's own sampler solves: with more steps it comes nearer to the same."""
    exact = drawn(models[kind], MODEL_SAMPLER, 100, 1.0)
    few, many = (
        float((drawn(models[kind], "dpmpp_2m", steps, 1.0) - exact).norm() / exact.norm()) for steps in (3, 30)
    )
    assert many < min(few, 0.05)


@pytest.mark.parametrize("kind", SAVE)
def test_latents_stay_fp32_where_the_network_computes_in_bf16(
    models: dict[str, str], kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """And the libraries write no warning about settings that a class does not know."""
    family = pipeline_family(load_pipeline(models[kind], CPU))
    for sampler in family.samplers:
        exact = drawn(models[kind], sampler, 3)
        rounded = drawn(models[kind], sampler, 3, precision="bf16")
        assert rounded.dtype == torch.float32, sampler
        assert not torch.equal(rounded, rounded.bfloat16().float()), f"{sampler}: rounded between the steps"
        assert (rounded - exact).abs().max() < 0.1 * exact.abs().max(), sampler
    assert "are not expected" not in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["sd3", "flux", "schnell"])
def test_a_flow_network_gets_the_time_of_its_noise(kind: str, tmp_path: Path) -> None:
    """Not rounded to a whole number, as diffusers' class does, and with the shift that the model's own sampler has."""
    save = {"schnell": lambda folder: tiny_flow.save_flux(folder, dev=False), **SAVE}[kind]
    folder = save(tmp_path / "model")
    settings = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    settings["base_shift"] = 1.5
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings))
    times = {sampler: times_of(str(folder), sampler) for sampler in (MODEL_SAMPLER, "dpmpp_2m")}
    process = pipeline_family(load_pipeline(str(folder), CPU)).load_process(str(folder), 32)
    mu = getattr(process, "mu", None)
    shift = settings["shift"] if mu is None else math.exp(mu)
    assert (mu is not None) == (kind == "flux")
    even = torch.linspace(0.999, 0, 8)[:-1]
    expected = shift * even / (1 + (shift - 1) * even)
    torch.testing.assert_close(times["dpmpp_2m"], expected, rtol=1e-5, atol=0)
    if kind != "sd3":  # whose own sampler is not spaced evenly before the shift
        even = torch.linspace(1, 1 / 7, 7)
        torch.testing.assert_close(times[MODEL_SAMPLER], shift * even / (1 + (shift - 1) * even), rtol=1e-5, atol=0)


def times_of(path: str, sampler: str) -> Tensor:
    """What the network of a flow-matching model gets in seven steps, as σ."""
    pipeline = load_pipeline(path, CPU, sampler=sampler)
    with torch.no_grad(), recorded(pipeline.transformer) as calls:
        sample(pipeline, 7, 1.0)
    unit = 1000 if type(pipeline).__name__ == "StableDiffusion3Pipeline" else 1
    return torch.stack([call["timestep"][0] for call in calls]) / unit


def test_every_sampler_of_a_family_is_a_choice() -> None:
    for family in families():
        assert {family.own_sampler, *family.samplers} <= set(SAMPLERS) - {MODEL_SAMPLER}
        assert family.own_sampler not in family.samplers


def test_a_sampler_that_does_not_fit_is_refused_before_weights_are_read(models: dict[str, str], tmp_path: Path) -> None:
    message = (
        r"generation\.sampler 'ddim' does not fit model\.path .*, a StableDiffusion3Pipeline; "
        r"use model \(which is euler\), dpmpp_2m$"
    )
    with pytest.raises(UserError, match=message):
        load_pipeline(models["sd3"], CPU, tmp_path / "no adapter", sampler="ddim")
    with pytest.raises(UserError, match=r"'dpmpp_2m_karras' does not fit model\.path .*, a FluxPipeline"):
        load_pipeline(models["flux"], CPU, sampler="dpmpp_2m_karras")


def test_a_spacing_that_the_models_folder_asks_for_is_not_taken_over(models: dict[str, str]) -> None:
    """Else ``euler`` and ``dpmpp_2m`` would be other samplers for a folder that was saved with another one."""
    pipeline = load_pipeline(models["sd"], CPU)
    config = {**pipeline.scheduler.config, "use_karras_sigmas": True, "algorithm_type": "sde-dpmsolver++"}
    family = pipeline_family(pipeline)
    for sampler in family.samplers:
        assert family.make_sampler(sampler, config).config["use_karras_sigmas"] == (sampler == "dpmpp_2m_karras")
    assert family.make_sampler("dpmpp_2m", config).config["algorithm_type"] == "dpmsolver++"
