"""Whole sweeps of cheap stages through a real SLURM: arrays, their limits, and what waits for what."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablations.slurm.launches import launches
from ablations.store import Store
from tests.ablations.conftest import SMALL, Planner
from tests.slurm.conftest import Submit
from tests.slurm.one_node import OneNode
from tests.slurm.watch import logs, runs, undone, wait_for_end

pytestmark = pytest.mark.slow


def test_a_sweep_in_arrays_of_four(
    slurm: OneNode, plan_of: Planner, store: Store, submit_plan: Submit, fake_log: Path
) -> None:
    slurm.reconfigure(max_array_size=4)
    plan = plan_of(SMALL.replace("[0]", "[0, 1, 2]"))
    done = submit_plan(plan)
    assert done.jobs == len(plan.nodes)
    (launch,) = launches(store)
    sizes = [(array.stage, len(array.keys)) for array in launch.arrays() if array.keys]
    assert max(size for _, size in sizes) == 4
    assert done.arrays == len(sizes)
    wait_for_end()
    assert undone(plan, store) == [], logs(store)
    assert set(runs(fake_log).values()) == {1}
