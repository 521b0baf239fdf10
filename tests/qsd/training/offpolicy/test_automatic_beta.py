"""An automatic β: its rule, its bounds, its place in checkpoints, processes, micro-batches and keys."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest
import torch

from qsd.config.load import defaults
from qsd.config.schema import LossConfig
from qsd.losses import REGISTRY
from qsd.stages.train import off_policy
from qsd.stages.train import run as train
from qsd.training.metrics import read_metrics
from qsd.training.offpolicy.automatic_beta import TARGET, AutomaticBeta, automatic_beta, sum_of_sizes
from qsd.training.offpolicy.beta_schedule import takes_schedule
from tests.qsd.losses.loss_cases import errors_with_logit
from tests.qsd.tiny_stages import TinyStages, trainer
from tests.qsd.training.by_hand import by_hand
from tests.qsd.training.stopping import StoppedError, files, stop_after

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")
SETTINGS = {
    "loss__beta": 2000.0,
    "loss__beta_schedule": "automatic",
    "loss__beta_decay": 0.5,
    "loss__beta_range": 1000.0,
    "training__steps": 6,
    "training__checkpoint_steps": 2,
    "training__pairs_per_step": 6,
    "training__micro_batch": 3,
}


def made(**settings: float) -> AutomaticBeta:
    return AutomaticBeta(LossConfig(**{"beta": 2000.0, "beta_decay": 0.5, **settings}), CPU)


def test_it_begins_at_beta_and_follows_the_size_of_d() -> None:
    """β/2 times the running mean is log 4: after one step with mean |d| three times its start, β is half."""
    schedule = made()
    assert schedule.beta.item() == pytest.approx(2000.0)
    schedule.update(torch.tensor([3 * 2 * TARGET / 2000.0]))
    assert schedule.beta.item() == pytest.approx(1000.0)
    for _ in range(60):
        schedule.update(torch.tensor([0.002]))
    assert schedule.beta.item() / 2 * 0.002 == pytest.approx(math.log(4))
    assert torch.sigmoid(-schedule.beta / 2 * 0.002).item() == pytest.approx(0.2)


@pytest.mark.parametrize(("size", "expected"), [(0.0, 20000.0), (1e9, 200.0)])
def test_it_stays_within_its_range(size: float, expected: float) -> None:
    schedule = made()
    for _ in range(300):
        schedule.update(torch.tensor([size]))
    assert schedule.beta.item() == pytest.approx(expected)


@pytest.mark.parametrize("size", [math.inf, math.nan])
def test_a_mean_that_is_not_finite_moves_nothing(size: float) -> None:
    schedule = made()
    schedule.update(torch.tensor([size]))
    assert schedule.beta.item() == pytest.approx(2000.0)


def test_its_state_goes_through_a_checkpoint() -> None:
    schedule, other = made(), made()
    schedule.update(torch.tensor([0.01]))
    other.load_tensors(schedule.tensors())
    assert other.beta.item() == schedule.beta.item() != 2000.0


@pytest.mark.parametrize("name", REGISTRY.names())
def test_a_loss_with_the_beta_of_a_tensor_has_its_value(name: str) -> None:
    """All losses that take the schedule, in fp32."""
    loss = REGISTRY.get(name)
    expected = name not in ("sft", "ipo", "mapo", "orpo", "slic_rank")
    assert takes_schedule(loss) is expected
    settings = LossConfig(name=name, beta=2000.0, beta_schedule="automatic")
    schedule = automatic_beta(loss, settings, CPU)
    assert (schedule is not None) is expected
    if schedule is None:
        return
    errors = errors_with_logit(-1e-3, 0.0, 2e-3)
    for chosen in (settings, schedule.settings()):
        statistics = loss.statistics(errors, chosen) if loss.statistics else None
        values = loss.function(type(errors)(**{**vars(errors), "statistics": statistics}), chosen)
        assert values.dtype == torch.float32
        assert values.tolist() == pytest.approx(
            loss.function(type(errors)(**{**vars(errors), "statistics": statistics}), settings).tolist(), rel=1e-5
        )
    assert sum_of_sizes(errors).item() == pytest.approx(3e-3, rel=1e-3)


def test_only_what_has_an_effect_enters_the_key() -> None:
    def read(**values: object) -> set[str]:
        flat = {**defaults(), **{name.replace("__", "."): value for name, value in values.items()}}
        return {name for name in off_policy.reads(flat) if name.startswith("loss.beta_")}

    assert read() == {"loss.beta_schedule"}
    assert read(loss__beta_schedule="automatic") == {"loss.beta_schedule", "loss.beta_decay", "loss.beta_range"}
    assert read(loss__name="sft", loss__beta_schedule="automatic") == set()


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["dpo", "alpha_dpo"])
def test_a_stopped_training_has_the_beta_of_one_that_ran_through(world: TinyStages, tmp_path: Path, loss: str) -> None:
    settings = {**SETTINGS, "loss__name": loss}
    whole = files(world.run(train, tmp_path / "whole", **settings))
    with pytest.raises(StoppedError):
        world.run(train, tmp_path / "again", report=stop_after(3), **settings)
    world.run(train, tmp_path / "again", **settings)
    assert files(tmp_path / "again") == whole
    betas = [row["beta"] for row in read_metrics(tmp_path / "whole")]
    assert betas[0] == pytest.approx(2000.0)
    assert len(set(betas)) == len(betas)
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert summary["final_beta"] == betas[-1]
    assert (
        f"; beta was automatic and ended at {betas[-1]:g}" in (tmp_path / "whole" / "adapter" / "README.md").read_text()
    )


@pytest.mark.slow
def test_two_processes_have_the_beta_of_one(world: TinyStages, tmp_path: Path) -> None:
    settings = {**SETTINGS, "training__steps": 3}
    one = world.run(train, tmp_path / "one", **settings)
    assert files(by_hand(world, tmp_path / "two", 2, **settings)) == files(one)


@pytest.mark.slow
def test_beta_does_not_depend_on_the_micro_batch(world: TinyStages) -> None:
    betas = []
    for micro in (6, 2):
        engine = trainer(world, **{**SETTINGS, "training__micro_batch": micro})
        with engine.method.batches:
            betas.append([engine.step(step)[0][-1].item() for step in range(3)])
    assert betas[0] == pytest.approx(betas[1], rel=1e-3)
