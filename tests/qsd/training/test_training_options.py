"""What a training may be asked for beside its recipe: averages, validation, kernels; and what it tells of itself."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from qsd.encoding.store import EncodedPairs
from qsd.errors import UserError
from qsd.models.adapter import FILE
from qsd.stages.train import run as train
from qsd.training import throughput
from qsd.training.ema import decay_at
from qsd.training.metrics import read_metrics, read_validation
from qsd.training.offpolicy.denoising_errors import reference_errors
from qsd.training.offpolicy.validation import held_out
from qsd.training.prefetch import Prefetched, moved
from tests.qsd.tiny_stages import TinyStages, pair_ids, select, trainer
from tests.qsd.training.stopping import StoppedError, files, stop_after

pytestmark = pytest.mark.slow


@pytest.fixture
def few(world: TinyStages, tmp_path: Path) -> TinyStages:
    """Seven of twelve encoded pairs are selected."""
    return world.with_inputs(select=select(tmp_path / "few", pair_ids(world)[:7]))


def test_resume_is_bit_equal_with_averages_validation_and_a_coupled_loss(few: TinyStages, tmp_path: Path) -> None:
    settings = {
        "training__steps": 5,
        "training__micro_batch": 3,
        "training__checkpoint_steps": 3,
        "training__ema": 0.9,
        "training__validation_pairs": 4,
        "training__validation_steps": 2,
        "loss__name": "adaptive_dpo",
    }
    whole = files(few.run(train, tmp_path / "whole", **settings))
    for stopped_at in (2, 4):  # before and after the checkpoint
        again = tmp_path / str(stopped_at)
        with pytest.raises(StoppedError):
            few.run(train, again, report=stop_after(stopped_at), **settings)
        assert files(few.run(train, again, **settings)) == whole
    assert [row["steps"] for row in read_validation(tmp_path / "whole")] == [2, 4, 5]


def test_ema_saves_the_average_and_trains_the_same(world: TinyStages, tmp_path: Path) -> None:
    """By the recurrence, over the adapters that trainings of one to three steps save."""
    plain = [world.run(train, tmp_path / str(steps), training__steps=steps) / "adapter" / FILE for steps in (1, 2, 3)]
    averaged = world.run(train, tmp_path / "ema", training__steps=3, training__ema=0.15)
    assert read_metrics(averaged) == read_metrics(tmp_path / "3")
    expected: dict[str, torch.Tensor] = {}
    for step, path in enumerate(plain):
        decay = decay_at(step, 0.15)
        weights = load_file(path)
        expected = {name: decay * expected.get(name, 0.0) + (1 - decay) * value for name, value in weights.items()}
    averages = load_file(averaged / "adapter" / FILE)
    for name, value in load_file(plain[-1]).items():
        torch.testing.assert_close(averages[name], expected[name], rtol=1e-5, atol=1e-8)
        assert not torch.equal(averages[name], value)


def test_coupled_statistics_see_the_whole_step(few: TinyStages) -> None:
    """The same loss of the step in micro-batches of one, three and seven pairs; of a later step, when it matters."""
    values = []
    for micro_batch in (1, 3, 7):
        made = trainer(few, loss__name="adaptive_dpo", training__pairs_per_step=7, training__micro_batch=micro_batch)
        torch.manual_seed(0)
        for parameter in made.method.parameters.values():
            parameter.data += 0.02 * torch.randn_like(parameter)
        means, norm = made.step(1)
        values.append([means[0].item(), norm.item()])
    for other in values[1:]:
        assert other == pytest.approx(values[0], rel=2e-3)


def test_validation_holds_out_pairs_that_were_not_selected(few: TinyStages, tmp_path: Path) -> None:
    settings = {"training__validation_pairs": 3, "training__steps": 4, "training__learning_rate": 1e-2}
    output = few.run(train, tmp_path / "a", **settings, training__validation_steps=3)
    rows = read_validation(output)
    assert [(row["steps"], row["pairs"]) for row in rows] == [(3, 3), (4, 3)]
    assert rows[0]["ref_winner_error"] == rows[1]["ref_winner_error"]
    assert rows[0]["logit_mean"] != rows[1]["logit_mean"]
    margin = rows[1]["ref_winner_error"] - rows[1]["ref_loser_error"] - rows[1]["winner_error"] + rows[1]["loser_error"]
    assert rows[1]["logit_mean"] == pytest.approx(margin, abs=1e-6)
    smaller = few.run(train, tmp_path / "b", **settings, training__micro_batch=1, training__validation_steps=9)
    assert read_validation(smaller)[0]["implicit_accuracy"] in (
        0,
        1 / 3,
        2 / 3,
        1,
        pytest.approx(1 / 3),
        pytest.approx(2 / 3),
    )
    assert not read_validation(few.run(train, tmp_path / "c", training__steps=1))


def test_the_choice_of_held_out_pairs_is_shared_by_selections_and_seeds(world: TinyStages) -> None:
    encoded, ids = EncodedPairs(world.artefacts["encode"]), pair_ids(world)
    process = trainer(world).method.denoiser.process
    recipe = world.config(training__validation_pairs=4, training__flip=False, training__caption_dropout=0.5).training
    first = held_out(encoded, ids[:3], recipe, process)
    second = held_out(encoded, ids[3:5], recipe, process)
    assert not set(first.pair_ids) & set(ids[:3])
    assert len(set(first.pair_ids) & set(second.pair_ids)) >= 2
    batches = [
        stream.batch(0, 4, torch.device("cpu")) for stream in (first, held_out(encoded, ids[:3], recipe, process))
    ]
    assert torch.equal(batches[0].noise, batches[1].noise)
    empty = encoded.conditioning(first._rows.caption[:1] * 0)["hidden_states"]
    assert not torch.equal(batches[0].conditioning["hidden_states"][:1], torch.from_numpy(empty))
    with pytest.raises(UserError, match=r"validation_pairs is 4, but 2 of 12 encoded pairs .* encode.scope: dataset"):
        held_out(encoded, ids[:10], recipe, process)


def test_kernels_that_are_not_there_are_named(world: TinyStages, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training\.attention: cudnn kernels cannot compute this model on cpu in fp32"):
        world.run(train, tmp_path, training__attention="cudnn", training__steps=1)


@pytest.mark.parametrize("other", [{"training__attention": "flash"}, {"training__channels_last": True}])
def test_other_kernels_train_the_same_up_to_rounding(
    world: TinyStages, tmp_path: Path, other: dict[str, object]
) -> None:
    plain, changed = (read_metrics(world.run(train, tmp_path / name, training__steps=2, **settings))
                      for name, settings in (("a", {}), ("b", other)))  # fmt: skip
    assert changed[0]["loss"] == plain[0]["loss"]
    assert changed[0]["winner_error"] == pytest.approx(plain[0]["winner_error"], rel=1e-5)
    assert changed[1]["loss"] == pytest.approx(plain[1]["loss"], rel=0.02)


def test_a_compiled_unet_trains_the_same(world: TinyStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With PyTorch's tracing and a back end that computes as without it; the usual one compiles for minutes."""
    traced = torch.nn.Module.compile
    compiled: list[torch.nn.Module] = []

    def compile_(module: torch.nn.Module) -> None:
        compiled.append(module)
        traced(module, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_)
    # Tracing adapters takes long. The masks of dropout are other tensors in every pass.
    settings = {"training__steps": 1, "loss__name": "sft", "lora__targets": ["to_q"], "lora__dropout": 0.2}
    plain = read_metrics(world.run(train, tmp_path / "plain", **settings))
    assert not compiled
    assert read_metrics(world.run(train, tmp_path / "compiled", training__compile=True, **settings)) == plain
    blocks = {type(module).__name__ for module in compiled}
    assert blocks == {"BasicTransformerBlock"}
    assert len(compiled) > 1


def test_operations_are_those_of_the_matrix_products() -> None:
    left, right = torch.randn(3, 5), torch.randn(5, 7, requires_grad=True)
    assert throughput.count_flops(lambda: left @ right) == 2 * 3 * 5 * 7
    assert throughput.count_flops(lambda: (left @ right).sum().backward()) == 2 * 2 * 3 * 5 * 7


def test_a_backward_pass_costs_more_than_a_forward_pass_and_micro_batches_cost_nothing(world: TinyStages) -> None:
    made = trainer(world)
    counted = made.method.prepare(0)
    assert 1.5 < counted.train_flops / counted.forward_flops < 3.2
    batch = made.method.stream.batch(0, 3, made.method.device)
    three = throughput.count_flops(lambda: reference_errors(made.method.denoiser, batch, "fp32"))
    assert three == pytest.approx(3 * counted.forward_flops, rel=0.15)
    assert counted.peak is None
    assert "peak" not in counted.text()


@pytest.mark.parametrize(
    ("name", "bf16"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100 80GB PCIe", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA A10G", None),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_a_peak_is_known_or_not_given(name: str, bf16: float | None) -> None:
    assert throughput.peak_of(name, "bf16") == bf16
    assert (throughput.peak_of(name, "fp32") is None) == (bf16 is None)


def test_a_share_of_the_peak_is_of_what_was_done() -> None:
    done = throughput.Throughput("pairs", train_flops=30, forward_flops=10, peak=100.0, trained=4, forwarded=8)
    assert done.flops_per_second(2.0) == 100.0
    done.start()
    assert "% of peak" in done.text()


def test_the_log_compares_with_the_reference(
    world: TinyStages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = world.run(train, tmp_path, training__steps=3)
    text = capsys.readouterr().out
    assert "3 steps in" in text
    assert "TFLOP/s" in text
    rows = read_metrics(output)
    loser = sum(row["loser_error"] - row["ref_loser_error"] for row in rows) / 3
    assert f"loser {loser:+.2e}" in text
    assert "seconds" not in json.dumps(rows)


def test_batches_are_made_ahead_in_order_and_errors_come_where_they_belong() -> None:
    made: list[int] = []
    ahead = threading.Event()

    def make(number: int) -> int:
        if number == 4:
            raise ValueError("four")
        made.append(number)
        if number == 2:
            ahead.set()
        return 10 * number

    with Prefetched(make, ahead=2, last=6) as batches:
        assert batches.take(0) == 0
        assert ahead.wait(10)
        assert [batches.take(number) for number in (1, 2, 3)] == [10, 20, 30]
        with pytest.raises(ValueError, match="four"):
            batches.take(4)
        assert batches.take(5) == 50
    assert made == [0, 1, 2, 3, 5]
    assert batches.take(2) == 20


def test_a_batch_moves_as_a_whole(world: TinyStages) -> None:
    batch = trainer(world).method.stream.batch(0, 2, torch.device("cpu"))
    there = moved(batch, torch.device("meta"))
    tensors = [there.latents, there.noise, there.timesteps, there.weights, *there.conditioning.values()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert there.pair_ids == batch.pair_ids
