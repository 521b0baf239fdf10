"""Scales by timestep: their rule, and their place in checkpoints, processes and micro-batches."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch

from qsd.config.schema import LossConfig
from qsd.losses import REGISTRY
from qsd.losses._annotators import BINS
from qsd.stages.train import run as train
from qsd.training.offpolicy.running_scales import DECAY, RunningScales, running_scales
from tests.qsd.losses.loss_cases import errors_with_logit
from tests.qsd.tiny_stages import TinyStages, trainer
from tests.qsd.training.by_hand import by_hand
from tests.qsd.training.stopping import StoppedError, files, stop_after

if TYPE_CHECKING:
    from pathlib import Path

    from qsd.losses import PairErrors

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "loss__name": "adaptive_dpo",
    "loss__adaptive_normalizer": "timestep",
    "loss__beta": 2000.0,
    "training__steps": 6,
    "training__checkpoint_steps": 2,
    "training__pairs_per_step": 6,
    "training__micro_batch": 3,
}


def errors(logits: list[float], timesteps: list[int]) -> PairErrors:
    return dataclasses.replace(errors_with_logit(*logits), timesteps=torch.tensor(timesteps))


def test_a_scale_begins_with_the_first_step_and_follows_the_later_ones() -> None:
    scales = RunningScales(3, CPU)
    first = scales.update(errors([0.5, 0.25], [0, 999])).reshape(3, BINS)
    assert first[0].tolist() == [0.5, *[0.0] * (BINS - 2), 0.25]
    assert (first[1:] == 0).all()  # of averages that have not moved
    second = scales.update(errors([1.0, 1.0], [0, 1])).reshape(3, BINS)
    assert second[0, 0].item() == pytest.approx(math.sqrt((DECAY * 0.25 + 2) / (DECAY + 2)))
    assert second[0, -1].item() == 0.25, "a bin without pairs keeps its scale"


def test_their_state_goes_through_a_checkpoint() -> None:
    scales, other = RunningScales(3, CPU), RunningScales(3, CPU)
    scales.update(errors([0.5], [3]))
    other.load_tensors(scales.tensors())
    step = errors([0.125], [4])
    assert torch.equal(scales.update(step), other.update(step))


def test_only_the_normalizer_by_timestep_has_them() -> None:
    for name in REGISTRY.names():
        loss = REGISTRY.get(name)
        assert running_scales(loss, LossConfig(name=name), CPU) is None
        made = running_scales(loss, LossConfig(name=name, adaptive_normalizer="timestep"), CPU)
        assert (made is not None) is (name == "adaptive_dpo")


@pytest.mark.slow
def test_a_stopped_training_has_the_scales_of_one_that_ran_through(world: TinyStages, tmp_path: Path) -> None:
    whole = files(world.run(train, tmp_path / "whole", **SETTINGS))
    with pytest.raises(StoppedError):
        world.run(train, tmp_path / "again", report=stop_after(3), **SETTINGS)
    world.run(train, tmp_path / "again", **SETTINGS)
    assert files(tmp_path / "again") == whole
    assert files(world.run(train, tmp_path / "step", **{**SETTINGS, "loss__adaptive_normalizer": "step"})) != whole


@pytest.mark.slow
def test_two_processes_have_the_scales_of_one(world: TinyStages, tmp_path: Path) -> None:
    settings = {**SETTINGS, "training__steps": 3}
    one = world.run(train, tmp_path / "one", **settings)
    assert files(by_hand(world, tmp_path / "two", 2, **settings)) == files(one)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["constant", "automatic"])
def test_scales_do_not_depend_on_the_micro_batch(world: TinyStages, schedule: str) -> None:
    """Also where one micro-batch is the whole step, which needs no pass of its own; beside an automatic β, too."""
    sums = []
    settings = {**SETTINGS, "training__learning_rate": 0.1, "loss__beta_schedule": schedule}
    for micro in (6, 2):
        engine = trainer(world, **{**settings, "training__micro_batch": micro})
        with engine.method.batches:
            for step in range(3):
                engine.step(step)
        tensors = engine.method.tensors()
        assert len(tensors) == (2 if schedule == "automatic" else 1)
        sums.append(tensors["squares_of_d_by_bin"])
    assert sums[0][0].sum().item() == pytest.approx(6 * (1 + DECAY + DECAY**2))
    torch.testing.assert_close(sums[0], sums[1], rtol=0.02, atol=1e-12)
