"""What a finished plan took, against what its cells would have taken on their own."""

from __future__ import annotations

from collections import Counter

import pytest

from ablations.cost.sharing_savings import Spent, spent
from ablations.files import write_json
from ablations.store.artefacts import Store
from qsd.reference import ACCOUNT
from tests.ablations.conftest import SMALL, Planner
from tests.ablations.cost.test_estimate import leave_record


def test_shared_stages_count_once_or_for_every_cell(plan_of: Planner, store: Store) -> None:
    plan = plan_of(SMALL)  # product, difference, random, base
    for number, (key, node) in enumerate(plan.nodes.items()):
        leave_record(store, node.stage, key, node.values, [10.0 * number, 1.0])
    took = {key: 10.0 * number + 1 for number, key in enumerate(plan.nodes)}
    base = next(cell for cell in plan.cells if cell.role == "base")
    needed: Counter[str] = Counter()
    for cell in plan.cells:
        if cell is not base:
            needed.update({node.key for node in (*cell.stages.values(), *base.stages.values())})
    found = spent(plan, store)
    assert found is not None
    assert found.once == pytest.approx(sum(took.values()))
    assert found.alone == pytest.approx(sum(took[key] * cells for key, cells in needed.items()))


def test_several_processes_count_each(plan_of: Planner, store: Store) -> None:
    plan = plan_of(SMALL)
    for key, node in plan.nodes.items():
        leave_record(store, node.stage, key, node.values, [4.0], processes=3 if node.stage == "train" else 1)
    found = spent(plan, store)
    trained = sum(node.stage == "train" for node in plan.nodes.values())
    assert found is not None
    assert found.once == pytest.approx(4 * len(plan.nodes) + 8 * trained)


def test_reference_errors_of_other_cells_count_as_their_own(plan_of: Planner, store: Store) -> None:
    """a: 0.1 s each, 250 found; b: found, but computed by no cell of the plan, so nobody knows what they are worth."""
    plan = plan_of(SMALL)
    trainings = [key for key, node in plan.nodes.items() if node.stage == "train"]
    for key, node in plan.nodes.items():
        leave_record(store, node.stage, key, node.values, [4.0], processes=2 if key == trainings[0] else 1)
    without = spent(plan, store)
    told = [("a", 50, 100, 10.0), ("a", 150, 0, 0.0), ("b", 300, 0, 0.0)]
    for key, (folder, found, computed, seconds) in zip(trainings, told, strict=True):
        account = {"folder": folder, "found": found, "computed": computed, "seconds": seconds}
        write_json(store.attempts("train", key) / "1" / ACCOUNT, account)
    now = spent(plan, store)
    assert without is not None
    assert now is not None
    assert now.once == without.once
    assert now.alone == pytest.approx(without.alone + 0.1 * (2 * 50 + 150))


def test_the_start_of_a_warm_process_counts_once_for_a_launch_or_for_every_cell(plan_of: Planner, store: Store) -> None:
    """Two launches, of 6 and 8 s; the random cell ran on a cluster, whose attempts start by themselves."""
    plan = plan_of(SMALL)
    for node in plan.nodes.values():
        leave_record(store, node.stage, node.key, node.values, [4.0])
    without = spent(plan, store)
    launches = [{"owner": {"pid": 1}, "seconds": 6.0}, {"owner": {"pid": 2}, "seconds": 8.0}]
    random = next(cell for cell in plan.cells if cell.role == "control")
    for number, node in enumerate(plan.nodes.values()):
        own = node in random.stages.values()
        leave_record(store, node.stage, node.key, node.values, [4.0], warm=None if own else launches[number % 2])
    now = spent(plan, store)
    assert without is not None
    assert now is not None
    assert len(plan.trained) == 3
    assert now.once == pytest.approx(without.once + 14)
    assert now.alone == pytest.approx(without.alone + 2 * 7)


def test_a_stage_without_a_record_leaves_it_unsaid(plan_of: Planner, store: Store) -> None:
    plan = plan_of(SMALL)
    for key, node in list(plan.nodes.items())[1:]:
        leave_record(store, node.stage, key, node.values, [1.0])
    assert spent(plan, store) is None


def test_several_launches_never_make_sharing_cost_something(plan_of: Planner, store: Store) -> None:
    """Every stage under a warm process of its own: 14 starts of 50 s, where three cells would have had one each."""
    plan = plan_of(SMALL)
    for number, node in enumerate(plan.nodes.values()):
        leave_record(store, node.stage, node.key, node.values, [1.0], warm={"owner": {"pid": number}, "seconds": 50.0})
    found = spent(plan, store)
    assert found is not None
    assert found.once > found.alone
    assert found.line().endswith(": 0 % saved by sharing")


def test_the_line() -> None:
    assert Spent(3600, 7200).line() == (
        "computing took 60 min; all cells on their own would have taken 2 h 0 min: 50 % saved by sharing"
    )
