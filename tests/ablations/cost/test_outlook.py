"""The time left of a run: by estimates and the schedule, not by stages per minute."""

from __future__ import annotations

from typing import Any

import pytest

from ablations.cost import outlook
from ablations.cost.estimate import Site
from ablations.cost.outlook import Outlook
from ablations.planning.plan import Plan
from ablations.store.artefacts import Store
from tests.ablations.conftest import SMALL, Planner

SECONDS = {"train": 100.0, "generate": 10.0}


class FakeEstimator:
    """A training takes 100 s, a generation 10 s, everything else a second."""

    def __init__(self, *_arguments: Any) -> None: ...

    def cost(self, node: Any) -> Any:
        return type("Cost", (), {"seconds": SECONDS.get(node.stage, 1.0)})


@pytest.fixture
def plan(plan_of: Planner, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(outlook, "Estimator", FakeEstimator)
    return plan_of(SMALL)


def outlook_for(plan: Plan, store: Store, slots: int = 1, only: set[str] | None = None) -> Outlook:
    return Outlook(plan, store, Site("local", slots, gpus=lambda _stage: 0), only)


def total(plan: Plan) -> float:
    return sum(SECONDS.get(node.stage, 1.0) for node in plan.nodes.values())


def test_the_whole_run_takes_the_sum_of_its_stages_in_one_slot(plan: Plan, store: Store) -> None:
    assert outlook_for(plan, store).seconds_left({}, 0.0) == pytest.approx(total(plan))
    assert outlook_for(plan, store, slots=3).seconds_left({}, 0.0) < total(plan) / 2


def test_quick_stages_before_long_ones_do_not_move_it(plan: Plan, store: Store) -> None:
    """By stages per minute, half of the stages done in a few seconds would leave a few seconds."""
    left, now = outlook_for(plan, store), 0.0
    for key, node in plan.nodes.items():
        if node.stage not in SECONDS and node.stage != "evaluate":
            left.started(key, now)
            now += 1.0
            left.finished(key, now)
            assert left.seconds_left({}, now) == pytest.approx(total(plan) - now)


def test_it_counts_down_between_two_looks(plan: Plan, store: Store) -> None:
    left = outlook_for(plan, store)
    begin = left.seconds_left({}, 0.0)
    assert [left.seconds_left({}, now) for now in (1.0, 2.5, 4.9)] == pytest.approx(
        [begin - t for t in (1.0, 2.5, 4.9)]
    )


def test_what_stages_took_corrects_the_others_of_their_kind(plan: Plan, store: Store) -> None:
    left = outlook_for(plan, store)
    trains = [key for key, node in plan.nodes.items() if node.stage == "train"]
    assert len(trains) > 1
    left.started(trains[0], 0.0)
    left.finished(trains[0], 300.0)
    rest = total(plan) - 100 * len(trains)
    assert left.seconds_left({}, 300.0) == pytest.approx(rest + 300 * (len(trains) - 1))


def test_a_running_stage_counts_by_its_own_rate(plan: Plan, store: Store) -> None:
    left = outlook_for(plan, store)
    key = next(key for key, node in plan.nodes.items() if node.stage == "train")
    left.started(key, 0.0)
    report = {"done": 10, "total": 60, "per_second": 0.1}
    assert left.seconds_left({key: report}, 50.0) == pytest.approx(total(plan) - 100 + 500)
    again = outlook_for(plan, store)
    again.started(key, 0.0)
    assert again.seconds_left({key: None}, 30.0) == pytest.approx(total(plan) - 30)
    again.stopped(key)
    assert again.seconds_left({}, 60.0) == pytest.approx(total(plan))


def test_what_a_failure_blocks_is_not_waited_for(plan: Plan, store: Store) -> None:
    left = outlook_for(plan, store)
    for key, node in plan.nodes.items():
        if node.stage == "train":
            left.failed(key)
    base = [node.stage for node in plan.cells[-1].stages.values()]
    shared = [node.stage for node in plan.nodes.values() if node.stage not in ("train", "generate", "evaluate")]
    assert left.seconds_left({}, 0.0) == pytest.approx(sum(SECONDS.get(stage, 1.0) for stage in (*base, *shared)))


def test_only_the_chosen_stages_count(plan: Plan, store: Store) -> None:
    key = next(key for key, node in plan.nodes.items() if node.stage == "train")
    assert outlook_for(plan, store, only={key}).seconds_left({}, 0.0) == pytest.approx(100)
