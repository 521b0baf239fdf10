"""How stages become arrays, and the cheapest form of what their elements wait for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ablations.slurm.arrays import batches, waits
from ablations.slurm.profile import Resources
from tests.ablations.conftest import Planner

CPU = Resources(gpus=0, cpus=1, memory_gb=1.0, minutes=10, parallel=8)


def test_one_batch_per_kind_and_level(plan_of: Planner) -> None:
    plan = plan_of()
    arrays = batches(plan.nodes, lambda _: CPU, 1000)
    assert [(batch.stage, len(batch.keys)) for batch in arrays] == [
        ("score", 1),
        ("encode", 1),
        ("select", 2),  # random: one per seed, and they need no scores
        ("generate", 1),  # of the base model
        ("select", 3),
        ("train", 2),
        ("evaluate", 1),
        ("train", 6),
        ("generate", 2),
        ("generate", 6),
        ("evaluate", 2),
        ("evaluate", 6),
    ]
    assert [key for batch in arrays for key in batch.keys if batch.stage == "train"]
    assert sorted(key for batch in arrays for key in batch.keys) == sorted(plan.nodes)


def test_inputs_come_in_earlier_batches_and_no_batch_is_too_large(plan_of: Planner) -> None:
    plan = plan_of()
    arrays = batches(plan.nodes, lambda _: CPU, 4)
    seen: set[str] = set()
    for batch in arrays:
        assert len(batch.keys) <= 4
        for key in batch.keys:
            assert set(plan.nodes[key].inputs.values()) <= seen
        seen.update(batch.keys)


def test_stages_that_are_not_submitted_do_not_raise_the_level(plan_of: Planner) -> None:
    plan = plan_of()
    left = {key: node for key, node in plan.nodes.items() if node.stage in ("train", "generate")}
    arrays = batches(left, lambda _: CPU, 1000)
    assert [(batch.stage, len(batch.keys)) for batch in arrays] == [("train", 8), ("generate", 1), ("generate", 8)]


def test_what_all_need_is_said_once() -> None:
    dependencies = waits([["5", "7_1"], ["7_1", "5"]])
    assert dependencies.dependency == "afterok:5:7_1"
    assert list(dependencies.updates("9")) == []
    assert waits([[], []]).dependency is None


def test_element_by_element() -> None:
    dependencies = waits([["5", "7_0", "8_0"], ["5", "7_1", "8_1"]])
    assert dependencies.dependency == "afterok:5,aftercorr:7:8"
    assert list(dependencies.updates("9")) == []


def test_each_its_own() -> None:
    dependencies = waits([["5", "7_1"], ["5", "7_0"], ["5"], ["5", "7_1"]])
    assert dependencies.dependency == "afterok:5"
    assert list(dependencies.updates("9")) == [
        "update jobid=9_[0,3] dependency=afterok:5:7_1",
        "update jobid=9_1 dependency=afterok:5:7_0",
    ]


def test_a_single_job_is_no_pair() -> None:
    assert waits([["7"], ["8"]]).paired == ()
    assert waits([["7_0"], ["7_1"], []]).paired == ()


jobs = st.sampled_from(["1", "2", "3_0", "3_1", "3_2", "4_0", "4_1", "4_2"])


@given(st.lists(st.lists(jobs, max_size=4), min_size=1, max_size=3))
def test_every_element_waits_for_exactly_its_needs(needs: list[list[str]]) -> None:
    dependencies = waits(needs)
    for index, wanted in enumerate(needs):
        waiting = {*dependencies.common, *(f"{array}_{index}" for array in dependencies.paired)}
        for elements, single in dependencies.single:
            if index in elements:
                waiting |= set(single)
        assert waiting == set(wanted)
