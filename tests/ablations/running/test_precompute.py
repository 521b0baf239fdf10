"""Common work of stages, done once beforehand: by how many processes, before what, and what if it fails."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.cost.timings import read_timings
from ablations.cost.workload import Counts
from ablations.files import read_json
from ablations.grid.keys import StageNode
from ablations.inspection.status import alive, status, status_lines
from ablations.planning.plan import Plan
from ablations.recovery.cancel import cancel
from ablations.recovery.gc import find_garbage
from ablations.running import precompute
from ablations.running.display import Lines
from ablations.running.local import RunResult, run
from ablations.running.schedule import Schedule
from ablations.slurm.arrays import ANY, waits
from ablations.slurm.submit import fitting
from ablations.store.artefacts import Store
from tests.ablations import fake_stages
from tests.ablations.conftest import Planner
from tests.ablations.kill import tree
from tests.ablations.local_run import PRELOAD
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

MODELS = """\
question: q
experiment: tiny
axes: {reward.model: [clip_emoji, aesthetic_emoji]}
baseline: {reward.model: clip_emoji}
seeds: [0]
"""
THREE = MODELS + "overrides: {reward.shards: 3}\n"
ONE = MODELS.replace(", aesthetic_emoji", "")


def notes(log: Path, word: str) -> list[str]:
    lines = log.read_text().splitlines() if log.exists() else []
    return sorted(line for line in lines if line.startswith(word))


def run_scores(plan: Plan, store: Store) -> RunResult:
    """Only the stages score."""
    scores = {key for key, node in plan.nodes.items() if node.stage == "score"}
    return run(plan, store, Lines(sys.stdout), 3, fake_stages.HERE, PRELOAD, only=scores)


def groups_of(plan: Plan, most: int = 10) -> list[precompute.PrecomputeGroup]:
    return precompute.groups(plan.nodes, fake_stages, most)


def test_one_process_serves_all_reward_models_before_they_run(plan_of: Planner, store: Store, fake_log: Path) -> None:
    plan = plan_of(MODELS)
    result = run_scores(plan, store)
    assert notes(fake_log, "ahead") == ["ahead-0/1 aesthetic_emoji,clip_emoji"]
    assert [line.split()[0] for line in notes(fake_log, "found")] == ["found-1", "found-1"]
    assert result.ran == 2
    fake_log.write_text("")
    assert run_scores(plan, store).ran == 0
    assert fake_log.read_text() == ""


def test_as_many_processes_as_shards_are_asked_for(plan_of: Planner, store: Store, fake_log: Path) -> None:
    run_scores(plan_of(THREE), store)
    assert [line.split()[0] for line in notes(fake_log, "ahead")] == ["ahead-0/3", "ahead-1/3", "ahead-2/3"]
    assert [line.split()[0] for line in notes(fake_log, "found")] == ["found-3", "found-3"]


def test_a_single_model_and_a_single_process_need_nobody_ahead(plan_of: Planner) -> None:
    assert groups_of(plan_of(ONE)) == []
    (group,) = groups_of(plan_of(ONE + "overrides: {reward.shards: 2}\n"))
    assert len(group.processes) == 2
    assert precompute.summary([group]) == ["precompute score for 1 stage, in 2 processes"]


def test_only_what_is_left_is_worked_on(plan_of: Planner, store: Store, fake_log: Path) -> None:
    """A stage that another launcher has done meanwhile is left out by the process itself."""
    run_scores(plan_of(ONE), store)
    plan = plan_of(THREE)
    left = {key: node for key, node in plan.nodes.items() if not store.is_done(node.stage, key)}
    assert [len(group.members) for group in precompute.groups(left, fake_stages, 10)] == [1]
    fake_log.write_text("")
    run_scores(plan, store)
    assert {line.split()[1] for line in notes(fake_log, "ahead")} == {"aesthetic_emoji"}


def test_its_failure_costs_nothing_but_time(
    plan_of: Planner,
    store: Store,
    fake_log: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = Store(Path("whole"), fake_stages.key_of)
    run_scores(plan_of(THREE), whole)
    monkeypatch.setenv("FAKE_AHEAD_FAILS", "1")
    capsys.readouterr()
    result = run_scores(plan_of(THREE), store)
    assert result.failures == []
    said = capsys.readouterr().out
    assert said.count("no room for two models; the stages compute what is missing themselves") == 3
    assert "failed: precompute score for 2 stages, process 1 of 3: " in said
    assert tree(store.root / "artefacts") == tree(whole.root / "artefacts")


def test_its_time_counts_among_its_stages(plan_of: Planner, store: Store, fake_log: Path) -> None:
    plan = plan_of(MODELS)
    run_scores(plan, store)
    (group,) = groups_of(plan)
    (folder,) = (store.root / "attempts" / "ahead").iterdir()
    assert folder.name == group.processes[0].key
    ending = folder / "1" / "exit.json"
    ending.write_text('{"state": "done", "seconds": 1000}')
    assert all(500 < timing.seconds < 600 for timing in read_timings(store, "score", Counts({})))


def wait_for(condition: object, what: str) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.05)


def test_status_shows_it_cancel_ends_it_and_gc_frees_what_it_left(
    plan_of: Planner, store: Store, fake_log: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world / "sweeps" / "good.yaml").unlink()
    plan = plan_of(THREE)
    monkeypatch.setenv("FAKE_AHEAD_STEPS", "1000")
    monkeypatch.setenv("FAKE_STEP_S", "0.2")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, "-m", "tests.ablations.launch_fake", "sweeps/a.yaml", "runs", "4"]
    launcher = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(notes(fake_log, "ahead")) == 3, "the processes to begin")
        overview = status(plan, store)
        assert alive(overview)
        shown = [entry for entry in overview["running"] if entry["stage"] == "ahead"]
        assert [entry["label"] for entry in shown] == [
            f"precompute score for 2 stages, process {number} of 3" for number in (1, 2, 3)
        ]
        assert (
            sum("precompute score for 2 stages, process 2 of 3: running" in line for line in status_lines(overview))
            == 1
        )
        assert sum(overview["states"].values()) == len(plan.nodes)
        store.shared("score", 1, {}).mkdir(parents=True)
        assert not [item for item in find_garbage(store, Path("sweeps"), fake_stages).items if item.kind == "shared"]
        assert any("SIGTERM to the launcher" in line for line in list(cancel(plan, store)))
        assert launcher.wait(timeout=60) == 143
    finally:
        launcher.kill()
    assert not alive(status(plan, store))
    assert {read_json(path)["state"] for path in Path("runs/attempts/ahead").rglob("exit.json")} == {"interrupted"}
    for name in ("FAKE_AHEAD_STEPS", "FAKE_STEP_S"):
        monkeypatch.delenv(name)
    run_scores(plan, store)
    items = find_garbage(store, Path("sweeps"), fake_stages).items
    assert [item.path for item in items if item.kind == "shared"] == [store.shared("score", 1, {})]
    assert {item.path.parent.name for item in items if item.kind == "attempts"} >= {"ahead"}


def test_a_stage_waits_for_what_goes_ahead_however_that_ends() -> None:
    def node(key: str, *inputs: str) -> StageNode:
        return StageNode("s", key, 1, {}, {name: name for name in inputs}, {})

    nodes = {each.key: each for each in (node("data"), node("help", "data"), node("score", "data"), node("end"))}
    schedule = Schedule(nodes, [], {"score": ["help"]})
    taken = [each and each.key for each in (schedule.next(), schedule.next(), schedule.next())]
    assert taken == ["data", "end", None]
    schedule.finished("data")
    first, then = schedule.next(), schedule.next()
    assert (first and first.key, then) == ("help", None)
    schedule.finished("help")
    last = schedule.next()
    assert last is not None
    assert last.key == "score"


def test_slurm_is_told_to_wait_for_any_end() -> None:
    dependencies = waits([["7", f"{ANY}9"], ["7", f"{ANY}9"]])
    assert dependencies.dependency == "afterok:7,afterany:9"
    assert waits([[f"{ANY}9"]]).dependency == "afterany:9"
    mixed = waits([["5_0", f"{ANY}9"], ["5_1"]])
    assert mixed.dependency is None
    assert list(mixed.updates("3")) == [
        "update jobid=3_0 dependency=afterok:5_0,afterany:9",
        "update jobid=3_1 dependency=afterok:5_1",
    ]
    assert waits([["5_0", f"{ANY}9"], ["5_1", f"{ANY}9"]]).dependency == "afterany:9,aftercorr:5"


@pytest.mark.parametrize("room, stages, processes", [(100, 13, 3), (13, 10, 3), (3, 3, 0), (0, 0, 0)])
def test_processes_ahead_count_in_the_queue(plan_of: Planner, room: int, stages: int, processes: int) -> None:
    plan = plan_of(THREE)
    assert len(plan.nodes) == 13
    now, groups = fitting(plan.nodes, fake_stages, room, 1000)
    assert (len(now), sum(len(group.processes) for group in groups)) == (stages, processes)


def test_no_more_processes_than_an_array_holds(plan_of: Planner) -> None:
    (group,) = groups_of(plan_of(THREE), most=2)
    assert [process.meaning["number"] for process in group.processes] == [0, 1]
    assert len({process.key for process in group.processes}) == 2
    assert replace(group.processes[0]).inputs == group.members[0].inputs
