"""Equal steps or equal epochs: how long a training lasts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qsd.config.schema import TrainingConfig
from qsd.stages.train import run as train
from qsd.training.metrics import read_metrics
from qsd.training.offpolicy.budget import steps_of
from tests.qsd.tiny_stages import TinyStages, pair_ids, select, trainer


@pytest.mark.parametrize(
    "pairs, epochs, expected",
    [(600, 3, 113), (160, 1, 10), (161, 1, 11), (3, 0.1, 1), (30, 0.1, 1), (160, 0.7, 7)],
)
def test_steps_by_hand(pairs: int, epochs: float, expected: int) -> None:
    """Of 16 pairs each, rounded up: 600 · 3 / 16 = 112.5."""
    training = TrainingConfig(steps=120, budget="epochs", epochs=epochs, pairs_per_step=16, learning_rate=1)
    assert steps_of(training, pairs) == expected
    training.budget = "steps"
    assert steps_of(training, pairs) == 120


@pytest.mark.slow
def test_equal_epochs_train_a_smaller_selection_for_fewer_steps(world: TinyStages, tmp_path: Path) -> None:
    ids, told = pair_ids(world), {}
    for kept in (4, 10):
        smaller = world.with_inputs(select=select(tmp_path / f"select-{kept}", ids[:kept]))
        budget = {"training__budget": "epochs", "training__epochs": 2.0, "training__steps": 1}
        out = smaller.run(train, tmp_path / f"out-{kept}", **budget)
        summary = json.loads((out / "summary.json").read_text())
        told[kept] = (summary["budget"], summary["steps"], summary["epochs"])
        assert len(read_metrics(out)) == summary["steps"]
    assert told == {4: ("epochs", 2, 2.0), 10: ("epochs", 5, 2.0)}


@pytest.mark.slow
def test_equal_steps_see_a_smaller_selection_more_often(world: TinyStages, tmp_path: Path) -> None:
    smaller = world.with_inputs(select=select(tmp_path / "select", pair_ids(world)[:4]))
    out = smaller.run(train, tmp_path / "out")
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["budget"], summary["steps"], summary["epochs"]) == ("steps", 4, 4.0)


def test_the_cosine_ends_at_the_last_step_of_the_budget(world: TinyStages) -> None:
    made = trainer(world, training__budget="epochs", training__epochs=3.0, training__schedule="cosine")
    assert made.method.config.training.steps == 9
    assert made.recipe.steps == made.optimizer.settings.schedule.steps == 9
