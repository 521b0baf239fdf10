"""Which jobs wait in vain for the end of a job whose stage is done, by what squeue says and the launches record."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ablations.planning.plan import Plan
from ablations.slurm import query
from ablations.slurm.query import described
from ablations.slurm.stale import stale
from ablations.store import launches
from ablations.store.artefacts import Store
from tests.ablations.conftest import Planner

TWO_RANKS = "question: q\nexperiment: tiny\naxes: {lora.rank: [4, 8]}\nbaseline: {lora.rank: 4}\nseeds: [0]\n"
Asked = Callable[..., list[str]]


@pytest.fixture
def plan(plan_of: Planner, store: Store) -> Plan:
    """Trainings are array 6, what follows them 7, ``select`` is job 4, and 9 runs no stage."""
    made = plan_of(TWO_RANKS)
    launch = launches.begin(store, "a", "tiny", {}, "generic", "one", "")
    for job, stage in (("4", "select"), ("6", "train"), ("7", "generate")):
        launch.record(launches.Array(job, job == "4", stage, "small", keys(made, stage)))
    launch.record(launches.Array("9", True, "ahead", "small", ["elsewhere"]))
    return made


def keys(plan: Plan, stage: str) -> list[str]:
    nodes = [node for node in plan.nodes.values() if node.stage == stage]
    return [node.key for node in nodes if node.inputs or stage == "train"]


@pytest.fixture
def asked(plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The jobs found, where both jobs of a stage wait for the dependency given and all others are done."""

    def ask(
        stage: str, dependency: str, reason: str = "Dependency", state: str = "PENDING", undone: str = ""
    ) -> list[str]:
        array = {"train": "6", "generate": "7"}[stage]
        jobs = {key: described(f"{array}_{index}", state, reason) for index, key in enumerate(keys(plan, stage))}
        monkeypatch.setattr(query, "dependencies", lambda wanted: dict.fromkeys(wanted, dependency))
        done = {key for key, node in plan.nodes.items() if node.stage not in (stage, undone)}
        return sorted(stale(store, plan.nodes, done, jobs, "one").values())

    return ask


def test_jobs_that_wait_for_done_stages_only(asked: Asked) -> None:
    assert asked("train", "afterok:4(unfulfilled)") == ["6_0", "6_1"]
    assert asked("generate", "aftercorr:6_*(unfulfilled)") == ["7_0", "7_1"]
    assert asked("generate", "afterok:6_1(unfulfilled)") == ["7_1"], "an element is freed by its own input only"


@pytest.mark.parametrize(
    "dependency",
    [
        "afterok:4(unfulfilled),afterok:9(unfulfilled)",  # a rehearsal, or processes ahead
        "afterok:4(unfulfilled),afterany:9(unfulfilled)",
        "afterok:4(failed)",
        "singleton(unfulfilled)",
        "(null)",
        "",
    ],
)
def test_what_artefacts_do_not_tell_is_left_alone(asked: Asked, dependency: str) -> None:
    assert asked("train", dependency) == []


def test_other_jobs_are_left_alone(asked: Asked) -> None:
    assert asked("train", "afterok:4(unfulfilled)", reason="Priority") == []
    assert asked("train", "afterok:4(unfulfilled)", state="RUNNING") == []
    assert asked("train", "afterok:4(unfulfilled)", undone="select") == []


def test_without_an_answer_nothing_is_found(plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "dependencies", lambda _: None)
    (key, *_) = keys(plan, "train")
    assert stale(store, plan.nodes, set(plan.nodes), {key: described("6_0", "PENDING", "Dependency")}, "one") == {}
