"""The full architectures of flow-matching models, on shapes alone: parameters, and operations of a pair."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from qsd.models.families import family_named
from scripts.full_size.count import operations, parameters
from scripts.full_size.flow_architectures import FLOW_ARCHITECTURES

pytestmark = pytest.mark.slow

TRAINED = {"sd35m": (4.885, 10.519, 18_776_064), "flux_dev": (43.005, 89.788, 52_297_728)}
"""TFLOP of a pair at 512 pixels: forward, and forward and backward with an adapter of rank 32; its parameters."""


@pytest.mark.parametrize("name", FLOW_ARCHITECTURES)
def test_architectures_have_as_many_parameters_as_the_published_ones(name: str) -> None:
    architecture = FLOW_ARCHITECTURES[name]
    assert parameters(architecture) == architecture.parameters


@pytest.mark.parametrize("name", FLOW_ARCHITECTURES)
def test_a_pair_costs_what_the_pages_say_and_what_planning_assumes(name: str) -> None:
    architecture = FLOW_ARCHITECTURES[name]
    family = family_named(architecture.pipeline, "a test")
    forward, trained, adapter = TRAINED[name]
    counted = operations(architecture, 512)
    assert (counted.forward / 1e12, counted.trained / 1e12) == pytest.approx((forward, trained), rel=1e-3)
    assert counted.adapter == adapter
    assert family.cost.parameters == architecture.parameters[family.network]
    assert 2 * family.cost.forward_flop(family.cost.parameters, 512) == pytest.approx(counted.forward, rel=0.1)
    numbers = sum(math.prod(shape) for shape in architecture.text.values())
    assert family.caption_numbers(Path("nowhere")) == numbers
    assert family.cost.latent_numbers(512) == math.prod(family.latent_shape(architecture.vae, 512))
