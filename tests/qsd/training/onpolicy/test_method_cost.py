"""What is planned for several updates on one batch of samples: only the passes with gradients are made for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from qsd.config.load import load_flat, override
from qsd.training.methods import REGISTRY, MethodPasses
from qsd.training.methods._cost import placed

METHODS = [name for name in REGISTRY.names() if REGISTRY.get(name).on_policy]


def planned(name: str, updates: int) -> tuple[MethodPasses, int]:
    """What one of some updates costs, and how many steps are trained."""
    settings = {"method.name": name, "method.updates": updates, "method.guidance_scale": 5.0}
    values = override(load_flat(Path("experiments/emoji.yaml")), settings)
    passes = REGISTRY.get(name).passes
    assert passes is not None
    return passes(values), len(placed(values))


@pytest.mark.parametrize("name", METHODS)
def test_samples_scores_and_reference_are_shared_by_all_updates(name: str) -> None:
    (one, trained), (each, _) = planned(name, 1), planned(name, 4)
    assert 4 * each.forward == pytest.approx(one.forward)
    assert 4 * each.scored == pytest.approx(one.scored)
    assert 4 * each.calls == pytest.approx(one.calls + 3 * trained)
    if name == "tailorpo_g":  # its guidance has gradients, too, and belongs to the samples
        assert one.trained > each.trained > one.trained / 4
    else:
        assert each.trained == one.trained
    assert each.together == one.together
