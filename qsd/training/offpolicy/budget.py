"""How long a training lasts: equal steps for all cells (the default), or equal passes over the selected pairs."""

from __future__ import annotations

import dataclasses
import math

from qsd.config.schema import ExperimentConfig, TrainingConfig


def steps_of(training: TrainingConfig, pairs: float) -> int:
    """Optimiser steps of a training on ``pairs`` selected pairs.

    ``training.steps`` under the budget ``steps``: every cell costs the same, and a smaller selection is seen more
    often. Under ``epochs``, the least number of whole steps that go ``training.epochs`` times over the pairs: every
    pair is seen equally often, and a smaller selection is trained for fewer steps.
    """
    if training.budget == "steps":
        return training.steps
    # A product such as 30 · 0.1 may end just above a whole number of steps by rounding.
    return max(1, math.ceil(training.epochs * pairs / training.pairs_per_step - 1e-9))


def within_budget(config: ExperimentConfig, pairs: int) -> ExperimentConfig:
    """The configuration with the number of steps that its budget gives for ``pairs`` pairs."""
    return dataclasses.replace(
        config, training=dataclasses.replace(config.training, steps=steps_of(config.training, pairs))
    )
