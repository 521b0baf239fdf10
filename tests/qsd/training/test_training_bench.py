"""What the benches of training compare with is a true training step, and they run on every kind of model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig

from qsd.models.denoiser import load_denoiser
from qsd.models.encoders import load_image_encoder, load_text_encoder
from qsd.training.throughput import count_flops
from scripts.bench import train as bench
from scripts.bench import train_device, training_subject
from scripts.bench.ceiling import Ceiling, ceiling
from scripts.bench.public_step import PublicStep
from scripts.bench.training_ways import WAYS, Ways, prepare_artefacts
from tests.qsd import tiny_pipeline, tiny_world
from tests.qsd.models.smallest import RESOLUTION, smallest

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
KINDS = {"sd": tiny_pipeline.save, "sdxl": tiny_pipeline.save_xl}


def step(path: str, checkpointing: bool) -> PublicStep:
    """The public step on a tiny pipeline."""
    lora = LoraConfig(r=2, lora_alpha=2, init_lora_weights="gaussian", target_modules=["to_q", "to_k"])
    torch.manual_seed(0)
    texts = [tower.model for tower in load_text_encoder(path, CPU).towers]
    vae = load_image_encoder(path, CPU).vae
    return PublicStep(load_denoiser(path, CPU), vae, texts, lora, 1e-2, 2500.0, "fp32", checkpointing)


def inputs(made: PublicStep, pairs: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Pixels and tokens."""
    pixels = torch.rand(pairs, 6, tiny_pipeline.RESOLUTION, tiny_pipeline.RESOLUTION) * 2 - 1
    return pixels, [torch.randint(0, 100, (pairs, tiny_pipeline.MAX_TOKENS)) for _ in made.text_models]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_public_step_starts_at_log_two_and_trains_the_adapter_alone(
    kind: str, checkpointing: bool, tmp_path: Path
) -> None:
    made = step(str(KINDS[kind](tmp_path)), checkpointing)
    frozen = {name: value.clone() for name, value in made.unet.named_parameters() if not value.requires_grad}
    given = inputs(made, 4)
    loss, model, reference, accuracy = made(*given)
    assert loss == pytest.approx(0.693147, abs=1e-5)
    assert model == reference
    assert accuracy == 0.5
    _, model, reference, _ = made(*given)
    assert model != reference
    assert len(made.parameters) > 0
    assert all("lora" in name or torch.equal(value, frozen[name]) for name, value in made.unet.named_parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_the_public_step_tells_the_unet_what_the_project_does(kind: str, tmp_path: Path) -> None:
    """Text, pooled text and time ids of whole images."""
    path = str(KINDS[kind](tmp_path))
    made = step(path, False)
    ours = load_text_encoder(path, CPU)
    captions = ["a red heart", "a cat"]
    tokens = [
        tower.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        for tower in ours.towers
    ]
    noisy = torch.zeros(4, *tiny_pipeline.LATENT_SHAPE)
    hidden, added = made._text(tokens, noisy)
    expected = {name: value.repeat(2, *[1] * (value.dim() - 1)) for name, value in ours.conditioning(captions).items()}
    assert torch.equal(hidden, expected["hidden_states"])
    denoiser = load_denoiser(path, CPU)
    wanted = denoiser.family.added_conditioning(noisy, expected, denoiser.pixels_per_latent)
    assert (added is None) == (wanted is None) == (kind == "sd")
    if added is not None and wanted is not None:
        assert all(torch.equal(added[name], wanted[name]) for name in ("text_embeds", "time_ids"))


def test_checkpointing_costs_another_forward_pass(tmp_path: Path) -> None:
    path = str(tiny_pipeline.save(tmp_path))
    with_, without = (
        count_flops(lambda made=made: made(*inputs(made, 2))) for made in (step(path, True), step(path, False))
    )
    assert with_ > 1.05 * without


def test_the_ratio_is_of_rounds() -> None:
    assert bench._ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == (2.0, "2.00 [1.00, 3.00]")


def test_the_ceiling_is_that_of_products_or_convolutions() -> None:
    """By a clock that ticks a second a reading."""
    ticks = iter(range(1000))
    measured = ceiling(CPU, "fp32", lambda: float(next(ticks)))
    assert measured == Ceiling(products=2 * 1024**3, convolutions=2 * 32 * 8 * 8 * 9 * 160**2)
    assert measured.best == measured.products
    assert "0.00215 TFLOP/s" in measured.line(None)
    assert measured.line(989e12).endswith("the data sheet says 989")


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def small(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(configuration, folder of its artefacts) of a published architecture, few and narrow, in bf16."""
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(training_subject.ARCHITECTURES, request.param, smallest(request.param))
        settings = [f"model.resolution={RESOLUTION}", "training.pairs_per_step=2", "training.micro_batch=2"]
        given = {"random": (request.param, str(folder / "weights")), "pairs": 6, "settings": settings}
        config = training_subject.configuration(argparse.Namespace(**given))
    prepare_artefacts(config, folder)
    return config, folder


def test_every_way_makes_steps(small: Any) -> None:
    config, folder = small
    assert config.training.precision == "bf16"
    assert config.lora.rank == 8
    ways = Ways(config, folder)
    seconds, flops = bench.timed(ways, rounds=1, steps=1)
    readme, public, online, shared = (flops[name] for name in WAYS)
    assert readme > public > online > shared
    text, ratio = bench.report(ways, seconds, flops, dict.fromkeys(WAYS, 2**20), reached=Ceiling(1e12, 1e12))
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")]
    assert [row[0].strip() for row in rows[2:]] == list(WAYS)
    assert {len(row) for row in rows} == {8}
    assert ratio > 0


@pytest.mark.parametrize(
    "small", ["sdxl"], indirect=True
)  # the one with more parts; the sweep asks nothing of the kind
def test_the_sweep_over_batches(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One kind of kernels has no memory for two pairs, which is a line and not the end."""
    config, folder = small
    line = train_device._line
    # Products of large matrices in bf16 take a CPU seconds each; the test above has the real ceiling.
    monkeypatch.setattr(train_device, "ceiling", lambda *_: Ceiling(products=1e9, convolutions=2e9))
    monkeypatch.setattr(train_device, "FIRST_STEPS", 1)

    def short(config: Any, *rest: Any) -> Any:
        if config.training.channels_last and config.training.pairs_per_step == 2:
            with monkeypatch.context() as patch:
                patch.setattr(Ways, "engine", no_memory)
                return line(config, *rest)
        return line(config, *rest)

    def no_memory(self: Ways, shared: Path | None) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(train_device, "_line", short)
    lines = list(train_device.report(config, folder, ["plain", "channels_last"], [2], steps=1))
    rows = [[cell.strip() for cell in text.split("|")[1:-1]] for text in lines if text.startswith("|")]
    table, profile = rows[2:4], rows[6:]
    assert [row[:2] for row in table] == [["plain", "2"], ["channels_last", "2"]]
    assert [row[2] == "out of memory" for row in table] == [False, True]
    assert any("convolutions 0.002; the higher one is the ceiling" in text for text in lines)
    done = table[:1]
    assert all(float(row[2]) > 0 for row in done)
    assert all(float(row[7]) <= 1e-6 for row in done), "the contract of step 0"
    assert len(profile) == train_device.PROFILED
    assert all(row[1].endswith("%") for row in profile)


@pytest.mark.parametrize("small", ["sdxl"], indirect=True)
def test_a_fresh_adapter_alone_has_small_logits(small: Any) -> None:
    """So that the column of the sweep can tell."""
    config, folder = small
    engine = Ways(train_device._sized(config, "plain", 2), folder).engine(folder / "reference")
    with torch.no_grad():
        for name, value in engine.method.parameters.items():
            if "lora_B" in name:
                value.add_(0.1)
    assert train_device.first_logit(engine) > 1e-5


def test_lines_have_their_settings(tmp_path: Path) -> None:
    """Precisions are those of a bench in bf16 only: in fp32 they would be compared with other arithmetic."""
    config = tiny_world.config(tmp_path, tmp_path)
    lines = {name: train_device._sized(config, name, 2) for name in train_device.KERNELS}
    assert lines["bf16_norms"].training.precision == "bf16_norms"
    assert lines["dora"].lora.dora
    assert lines["dropout"].lora.dropout > 0
    assert lines["checkpointing"].training.gradient_checkpointing
    assert lines["plain"].lora == config.lora
    assert {line.training.micro_batch for line in lines.values()} == {2}
    left_out = set(train_device.usual_kernels("bf16")) - set(train_device.usual_kernels("fp32"))
    assert left_out == {"bf16_norms", "bf16_norms+channels_last+compile"}


@pytest.mark.parametrize("words", [["--random", "sd3", "somewhere"], ["--kernels", "fast"]])
def test_a_wrong_word_is_told(words: list[str], capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train_device", *words])
    with pytest.raises(SystemExit) as ending:
        train_device.main()
    message = f"{ending.value} {capsys.readouterr().err}"
    assert "known: sd15, sdxl" in message or "known: plain, channels_last" in message
