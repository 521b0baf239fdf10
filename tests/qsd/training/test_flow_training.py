"""Flow-matching models through all stages: where training begins, all losses, resuming, and the stock pipeline."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from qsd.encoding.store import EncodedPairs
from qsd.generation.images import read_images
from qsd.losses import REGISTRY as LOSSES
from qsd.models.denoiser import load_denoiser
from qsd.models.encoders import load_text_encoder
from qsd.models.families import family_named
from qsd.models.local_checks import check_targets
from qsd.models.pipeline import load_pipeline, pipeline_family, text_encoder_of
from qsd.models.precision import autocast_for
from qsd.runtime import Interrupted
from qsd.stages.encode import run as encode
from qsd.stages.generate import run as generate
from qsd.stages.train import run as train
from qsd.training.metrics import read_metrics
from qsd.training.offpolicy.denoising_errors import pair_errors
from tests.qsd import tiny_flow, tiny_world
from tests.qsd.stock import drawn
from tests.qsd.tiny_stages import TinyStages, trainer

pytestmark = pytest.mark.slow

LOG_2 = torch.tensor(2.0).log().item()
GUIDANCE, STEPS, SEED = 4.0, 3, 5
SAVE = {"StableDiffusion3Pipeline": tiny_flow.save_sd3, "FluxPipeline": tiny_flow.save_flux}
LAWS = {"training__noise_law": "logit_normal", "training__noise_shift": 3.0}


@pytest.fixture(scope="module", params=SAVE)
def flow(request: pytest.FixtureRequest, world: TinyStages, tmp_path_factory: pytest.TempPathFactory) -> FlowWorld:
    """The tiny world, encoded by a flow model."""
    folder = tmp_path_factory.mktemp("flow")
    model = SAVE[request.param](folder / "model")
    settings = {"model__path": str(model), "lora__targets": list(family_named(request.param, "a test").lora_targets)}
    encoded = world.with_inputs(encode=world.run(encode, folder / "encode", **settings))
    return FlowWorld(request.param, encoded, settings)


class FlowWorld:
    """The tiny world and the settings of a flow model in it."""

    def __init__(self, pipeline: str, stages: TinyStages, settings: dict[str, Any]) -> None:
        self.pipeline, self.stages, self.settings = pipeline, stages, settings

    @property
    def model(self) -> str:
        """The model's folder."""
        return str(self.settings["model__path"])

    def trainer(self, **settings: Any) -> Any:
        """An engine with a fresh adapter."""
        return trainer(self.stages, **{**self.settings, **settings})


def test_text_is_stored_as_it_is_encoded(flow: FlowWorld) -> None:
    encoded = EncodedPairs(flow.stages.artefacts["encode"])
    stored = encoded.conditioning(np.zeros(1, dtype=np.int64))
    expected = load_text_encoder(flow.model, torch.device("cpu")).conditioning([""])
    assert stored.keys() == expected.keys()
    for field, values in expected.items():
        np.testing.assert_allclose(stored[field], values, rtol=0, atol=1e-5)


def test_the_usual_targets_are_layers_of_the_network(flow: FlowWorld) -> None:
    """Each of them: a list in which some match would train less than it says."""
    check_targets(flow.model, tuple(flow.settings["lora__targets"]))
    made = flow.trainer()
    for target in flow.settings["lora__targets"]:
        assert any(f".{target}.lora_A" in name for name in made.method.parameters), target


def test_a_fresh_adapter_has_logits_of_zero_and_a_loss_of_log_two(flow: FlowWorld) -> None:
    made = flow.trainer(**LAWS)
    batch = made.method.stream.batch(0, 8, made.method.device)
    errors = pair_errors(made.method.denoiser, batch, True, "fp32")
    assert errors.logits.tolist() == [0.0] * 8
    means, _ = made.step(0)
    assert means[0].item() == LOG_2


@pytest.mark.parametrize("micro", [4, 2])
def test_scales_by_timestep_are_of_bins_of_sigma(flow: FlowWorld, micro: int) -> None:
    """t = 1000 σ, for a step of one micro-batch and of two; and the detection after a training has them, too."""
    settings = {"loss__name": "adaptive_dpo", "loss__adaptive_normalizer": "timestep", "training__detection_draws": 2}
    made = flow.trainer(**settings, training__micro_batch=micro)
    sigma = made.method.stream.batch(0, 4, made.method.device).timesteps[:4]
    with made.method.batches:
        made.step(0)
    counts = made.method.tensors()["squares_of_d_by_bin"][0]
    assert counts.tolist() == np.bincount((8 * sigma.numpy()).astype(int), minlength=8).tolist()
    judged = made.method.find_flips()
    assert judged is not None
    assert np.isfinite(judged.metric).all()
    assert np.isfinite(judged.base_margin).all()


def test_errors_are_of_the_velocity_at_levels_of_the_law(flow: FlowWorld) -> None:
    """By hand, from what the batch holds."""
    made = flow.trainer(**LAWS)
    batch = made.method.stream.batch(0, 4, made.method.device)
    plain = flow.trainer().method.stream.batch(0, 4, made.method.device)
    assert batch.timesteps.dtype == torch.float32
    level = torch.special.expit(torch.special.ndtri(plain.timesteps.double()))
    torch.testing.assert_close(batch.timesteps.double(), 3 * level / (1 + 2 * level), rtol=0, atol=1e-6)
    sigma = batch.timesteps[:, None, None, None]
    noisy = (1 - sigma) * batch.latents + sigma * batch.noise
    denoiser = load_denoiser(flow.model, torch.device("cpu"))
    with torch.no_grad():
        velocity = denoiser.predict(noisy, batch.timesteps, batch.conditioning)
    expected = (batch.noise - batch.latents - velocity).square().mean(dim=(1, 2, 3))
    errors = pair_errors(made.method.denoiser, batch, True, "fp32")
    torch.testing.assert_close(torch.cat([errors.winner, errors.loser]).detach(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("loss", LOSSES.names())
def test_every_loss_moves_the_adapter(flow: FlowWorld, loss: str) -> None:
    made = flow.trainer(loss__name=loss)
    before = {name: values.detach().clone() for name, values in made.method.parameters.items() if "lora_B" in name}
    means, norm = made.step(0)
    assert means[0].isfinite()
    assert norm > 0
    still = [name for name, values in before.items() if torch.equal(made.method.parameters[name], values)]
    # The last block of SD3 drops the text, so that nothing depends on what its queries are.
    assert all("transformer_blocks.1.attn.add_q_proj" in name for name in still)


def test_bf16_computes_in_bf16_and_keeps_the_adapter_fp32(flow: FlowWorld) -> None:
    made = flow.trainer(training__precision="bf16")
    assert next(made.method.denoiser.network.parameters()).dtype == torch.bfloat16
    assert {values.dtype for values in made.method.parameters.values()} == {torch.float32}
    batch = made.method.stream.batch(0, 4, made.method.device)
    assert pair_errors(made.method.denoiser, batch, True, "bf16").logits.abs().max() <= 1e-6


# ── The stages ───────────────────────────────────────────────────────────────────────────────────────────────────────


def files(folder: Path) -> dict[str, bytes]:
    """The artefact without its resumable state."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".state" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_a_stopped_training_ends_in_the_same_bytes_and_the_stock_pipeline_draws_the_same(
    flow: FlowWorld, tmp_path: Path
) -> None:
    recipe = {**flow.settings, **LAWS, "training__learning_rate": 0.03, "training__caption_dropout": 0.3}
    whole = flow.stages.run(train, tmp_path / "train", **recipe, lora__alpha=4.0)
    config = flow.stages.config(**recipe, lora__alpha=4.0)
    context = tiny_world.context(config, tmp_path / "resumed", **flow.stages.artefacts)
    asked = iter([False, False, True])
    with pytest.raises(Interrupted, match="stopped after 2 of 4 steps"):
        train.run(replace(context, stopping=lambda: next(asked)))
    train.run(replace(context, reference_errors=tmp_path / "reference"))
    assert files(tmp_path / "resumed") == files(whole)
    assert len(read_metrics(whole)) == 4
    card = (whole / "adapter" / "README.md").read_text()
    assert f"from diffusers import {flow.pipeline}" in card
    assert "`kohya.safetensors` is the same adapter for programs that read OneTrainer's names" in card

    drawing = {
        "generation__guidance_scale": GUIDANCE,
        "generation__steps": STEPS,
        "generation__seed": SEED,
        "evaluation__prompts_per_split": 1,
        **flow.settings,
    }
    trained = flow.stages.with_inputs(train=whole)
    ours = list(read_images(trained.run(generate, tmp_path / "images", **drawing)))
    stock: Any = getattr(diffusers, flow.pipeline).from_pretrained(flow.model, local_files_only=True)
    stock.set_progress_bar_config(disable=True)
    prompts = [(item.prompt_id, item.caption) for item in ours]
    before = drawn(stock, prompts, 32, STEPS, GUIDANCE, SEED)
    stock.load_lora_weights(whole / "adapter")
    after = drawn(stock, prompts, 32, STEPS, GUIDANCE, SEED)
    for item, theirs, untouched in zip(ours, after, before, strict=True):
        assert np.abs(np.asarray(item.image, np.int16) - theirs).max() <= 1
        assert np.abs(theirs - untouched).max() > 4


def test_metrics_of_a_cell_state_the_law(flow: FlowWorld, tmp_path: Path) -> None:
    """The adapter's file names it among the settings that differ from the defaults."""
    out = flow.stages.run(train, tmp_path, **{**flow.settings, **LAWS, "training__steps": 1})
    card = (out / "adapter" / "README.md").read_text()
    assert "| `training.noise_law` | logit_normal |" in card
    assert "| `training.noise_shift` | 3 |" in card
    assert json.loads((out / "summary.json").read_text())["steps"] == 1


def test_images_in_bf16_are_near_those_in_fp32(flow: FlowWorld) -> None:
    """And latents stay fp32 between the steps."""
    drawn_latents = []
    for precision in ("fp32", "bf16"):
        pipeline = load_pipeline(flow.model, torch.device("cpu"), precision=precision)
        assert pipeline.transformer.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
        text = text_encoder_of(pipeline, torch.device("cpu"))
        start = torch.randn(1, *tiny_flow.LATENT_SHAPE, generator=torch.Generator().manual_seed(0))
        negative, positive = text.conditioning([""]), text.conditioning(["a red heart"])
        with torch.no_grad(), autocast_for("cpu", precision):
            made = pipeline_family(pipeline).sample(pipeline, start, positive, negative, 3, GUIDANCE, 32)
        assert made.dtype == torch.float32
        drawn_latents.append(made)
    exact, rounded = drawn_latents
    assert 0 < (exact - rounded).abs().max() < 0.05 * exact.abs().max()
