"""The engine with a method that has nothing to do with pairs: what it promises holds for a method it has never met."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from qsd.adapters.card import write_card
from qsd.adapters.facts import AdapterFacts, TrainingFacts
from qsd.config.load import defaults
from qsd.runtime import Interrupted, never, silent
from qsd.stages.spec import stage_inputs
from qsd.training import checkpoint as checkpoints
from qsd.training import engine as engine_module
from qsd.training import method as method_module
from qsd.training.ema import ParameterEma
from qsd.training.engine import Engine, Recipe
from qsd.training.jsonl_log import NonFiniteLossError
from qsd.training.method import AdapterMethod
from qsd.training.methods import REGISTRY as METHODS
from qsd.training.metrics import read_metrics, read_validation
from qsd.training.optimizer import OptimizerSettings
from qsd.training.processes import Processes
from tests.qsd.training.stopping import StoppedError, files, stop_after

STEPS, PROMPTS = 25, 4


@dataclass
class Schedule:
    """What the learning rate depends on."""

    steps: int = STEPS
    learning_rate: float = 0.05
    schedule: str = "cosine"
    warmup_steps: int = 3


class ToyMethod(AdapterMethod):
    """Prompts and a reward, as an on-policy method has them: a small network learns to answer with what is rewarded.

    It keeps a running mean of the reward, which is state of its own, and no file of any stage is read.
    """

    needs = ()
    unit = "prompts"
    columns = ("reward", "baseline")
    finite = ("reward", "grad_norm")
    lower = "toy.rate"
    validates = True

    def __init__(self, processes: Processes | None = None) -> None:
        generator = torch.Generator().manual_seed(0)
        self.network = nn.Linear(3, 2)
        with torch.no_grad():
            for parameter in self.network.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.processes = processes or Processes()
        self.parameters = dict(self.network.named_parameters())
        self.averages = ParameterEma(self.parameters, saved=0.8)
        self.baseline = torch.zeros(1)
        self.broken_at: int | None = None

    def units(self, step: int) -> int:
        return PROMPTS

    def step(self, step: int) -> Tensor:
        prompts = torch.randn(PROMPTS, 3, generator=torch.Generator().manual_seed(step))
        reward = -(self.network(prompts) - prompts[:, :2]).square().sum(dim=1)
        if step == self.broken_at:
            reward = reward * math.nan
        torch.autograd.backward(-(reward - self.baseline).mean())
        values = torch.stack([reward.mean().detach(), self.baseline[0].clone()])
        self.baseline.lerp_(reward.detach().mean().reshape(1), 0.1)
        return values

    def further_columns(self, done: int) -> Mapping[str, float]:
        return {"weight_norm": float(self.network.weight.detach().norm())} if done % 10 == 0 else {}

    def validate(self, done: int) -> Mapping[str, float] | None:
        if done % 8 and done < STEPS:
            return None
        with torch.no_grad(), self.averages.result():
            error = (self.network(torch.eye(3)) - torch.eye(3)[:, :2]).square().mean()
        return {"steps": done, "error": float(error)}

    def tensors(self) -> Mapping[str, Tensor]:
        return {"baseline": self.baseline}

    def load_tensors(self, stored: Mapping[str, Tensor]) -> None:
        self.baseline.copy_(stored["baseline"])

    def describe(self, row: Mapping[str, Any]) -> str:
        return f"reward {row['reward']:.3f}"

    def opening_lines(self) -> Iterable[str]:
        yield "the reward is the squared distance, negative"

    def closing_lines(self, mean: Mapping[str, Any]) -> Iterable[str]:
        yield f"baseline {mean['baseline']:.3f}"

    def summary(self, output: Path) -> dict[str, Any]:
        return {"last_reward": read_metrics(output)[-1]["reward"]}

    def facts(self, settings: Mapping[str, Any], summary: Mapping[str, Any]) -> TrainingFacts:
        return TrainingFacts(
            metadata={"reward": "squared distance"},
            tags=("reinforcement-learning",),
            results=(f"last reward {summary['last_reward']:.3g}",),
            data="New prompts are drawn in every step; a reward judges the answers.",
            digests={"the prompts": "0" * 64},
        )


def recipe(checkpoint_steps: int = 4) -> Recipe:
    return Recipe(OptimizerSettings(Schedule(), 0.0, max_grad_norm=1.0, kind="toy"), checkpoint_steps, 1e9)


def train(
    folder: Path,
    method: ToyMethod | None = None,
    report: Any = silent,
    stopping: Callable[[], bool] = never,
    checkpoint_steps: int = 4,
    attempt: Path | None = None,
) -> Engine[ToyMethod]:
    """Train in ``folder``, whatever is there, and write the weights that are the result as stage train does."""
    engine = Engine(method or ToyMethod(), recipe(checkpoint_steps))
    (folder / ".state").mkdir(parents=True, exist_ok=True)
    engine.run(folder, folder / ".state", report, stopping, attempt)
    with engine.method.averages.result():
        save_file(
            {name: value.detach() for name, value in engine.method.parameters.items()}, folder / "toy.safetensors"
        )
    (folder / "summary.json").write_text(json.dumps(engine.method.summary(folder)))
    return engine


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("toy")
    train(folder)
    return files(folder)


def test_it_trains_and_logs_the_columns_of_the_method(tmp_path: Path) -> None:
    train(tmp_path)
    rows = read_metrics(tmp_path)
    usual = ["step", "reward", "baseline", "grad_norm", "learning_rate"]
    assert [list(row) for row in rows] == [
        [*usual, "weight_norm"] if (row["step"] + 1) % 10 == 0 else usual for row in rows
    ]
    assert [row["step"] for row in rows] == list(range(STEPS))
    assert rows[0]["learning_rate"] == pytest.approx(0.05 / 3)
    assert sum(row["reward"] for row in rows[-5:]) > sum(row["reward"] for row in rows[:5])
    assert [row["steps"] for row in read_validation(tmp_path)] == [8, 16, 24, 25]


def test_the_saved_average_is_the_result(tmp_path: Path) -> None:
    engine = train(tmp_path)
    saved, last = load_file(tmp_path / "toy.safetensors"), engine.method.parameters
    assert all(not torch.equal(saved[name], last[name]) for name in saved)


@pytest.mark.parametrize("stopped_at", [1, 4, 11, 13, STEPS])
def test_a_killed_training_ends_in_the_same_bytes(
    tmp_path: Path, uninterrupted: dict[str, bytes], stopped_at: int
) -> None:
    """At 11 rows of the log wait on the device, and the method's own state is not that of its weights."""
    with pytest.raises(StoppedError):
        train(tmp_path, report=stop_after(stopped_at))
    train(tmp_path)
    assert files(tmp_path) == uninterrupted


@pytest.mark.parametrize("steps", [0, 1, 13])
def test_a_training_asked_to_stop_loses_no_step(
    tmp_path: Path, uninterrupted: dict[str, bytes], steps: int, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter([*[False] * steps, True])
    with pytest.raises(Interrupted, match=f"stopped after {steps} of {STEPS} steps"):
        train(tmp_path, stopping=lambda: next(answers), checkpoint_steps=1000)
    kept = checkpoints.load(tmp_path / ".state")
    assert (kept.step if kept else 0) == steps
    capsys.readouterr()
    train(tmp_path, checkpoint_steps=1000)
    assert f"{STEPS - steps} steps in" in capsys.readouterr().out
    assert files(tmp_path) == uninterrupted


def test_a_checkpoint_holds_weights_optimiser_averages_and_the_methods_own_state(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train(tmp_path, report=stop_after(5))
    stored = load_file(tmp_path / ".state" / checkpoints.FILE)
    parts = ("toy", "step", "exp_avg", "exp_avg_sq", "average0")
    assert stored.keys() == {f"{part}/{name}" for part in parts for name in ("weight", "bias")} | {"method/baseline"}


def test_divergence_is_judged_by_the_columns_that_the_method_names(tmp_path: Path) -> None:
    """Raised at the next flush of the log, at the latest with the last step; the rows before it are written."""
    method = ToyMethod()
    method.broken_at = 12
    with pytest.raises(NonFiniteLossError, match=r"reward is nan at step 12; lower toy\.rate"):
        train(tmp_path, method)
    assert len(read_metrics(tmp_path)) == 12


def test_the_method_words_its_own_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attempt = tmp_path / "attempt"
    attempt.mkdir()
    train(tmp_path / "out", attempt=attempt, checkpoint_steps=1000)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "the reward is the squared distance, negative"
    assert any(line.startswith(f"{STEPS} steps in") and line.endswith("prompts/s") for line in lines)
    assert any(line.startswith("last 20 steps: reward -") for line in lines)
    assert any(line.startswith("validation after 8 steps ") for line in lines)
    assert any(line.startswith("after 10 steps: weight_norm ") for line in lines)
    assert lines[-1].startswith("baseline -")
    rates = [json.loads(line) for line in (attempt / "rates.jsonl").read_text().splitlines()]
    assert [row["steps"] for row in rates] == [10, 20, 25]
    assert list(rates[0]) == ["steps", "prompts_per_second", "flops_per_second", "share_of_peak"]
    assert rates[0]["prompts_per_second"] > 0
    assert rates[0]["flops_per_second"] is None, "operations are not counted"


def test_only_the_main_process_writes_and_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Processes, "sum", lambda self, tensor: tensor)
    monkeypatch.setattr(Processes, "wait", lambda self: None)
    (tmp_path / ".state").mkdir()
    Engine(ToyMethod(Processes(1, 2)), recipe()).run(tmp_path, tmp_path / ".state", silent)
    assert [path.name for path in tmp_path.rglob("*")] == [".state"]
    assert capsys.readouterr().out == ""


def test_facts_and_card_of_an_adapter_need_no_input_of_any_stage(tmp_path: Path) -> None:
    method = train(tmp_path).method
    facts = AdapterFacts(
        base_model="folder:" + "1" * 64,
        pipeline="StableDiffusionPipeline",
        settings={"lora.rank": 4},
        seed=3,
        training=method.facts({}, method.summary(tmp_path)),
        kohya_readers="some programs",
    )
    assert facts.metadata()["qsd.reward"] == "squared distance"
    assert not {"qsd.data_digest", "qsd.selection_digest", "qsd.labels"} & set(facts.metadata())
    card = write_card(tmp_path, facts).read_text(encoding="utf-8")
    assert "- reinforcement-learning" in card
    assert "- last reward -" in card
    assert f"- digest of the prompts: `{'0' * 64}`" in card
    assert "pair" not in card.replace("one cell of a preference ablation", "")
    other = replace(facts, training=replace(facts.training, data="Other prompts."))
    assert "Other prompts." in write_card(tmp_path, other).read_text(encoding="utf-8")


def test_the_inputs_of_stage_train_are_those_that_its_method_needs() -> None:
    assert set(stage_inputs("train", defaults())) == {"select", "encode"}
    for name in METHODS.names():
        assert stage_inputs("train", {**defaults(), "method.name": name}) == METHODS.get(name).inputs


@pytest.mark.parametrize("module", [engine_module, method_module])
def test_the_engine_imports_nothing_of_any_method(module: Any) -> None:
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    methods = ("qsd.training.offpolicy", "qsd.training.onpolicy", "qsd.losses", "qsd.reward_training", "qsd.reference")
    assert not [name for name in imported if name and name.startswith(methods)]
