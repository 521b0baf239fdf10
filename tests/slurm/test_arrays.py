"""Sweeps of cheap stages through a real SLURM: arrays, the site's limits, refusals, and what waits for what."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.slurm.profile import Profile, read_profile
from ablations.store.artefacts import Store
from ablations.store.launches import launches
from qsd.errors import UserError
from tests.ablations.conftest import SMALL, TWO_RANKS, Planner
from tests.slurm.conftest import PROFILE, Submit
from tests.slurm.one_node import OneNode
from tests.slurm.watch import command, logs, queue, runs, undone, wait_for, wait_for_end

pytestmark = pytest.mark.slow
THOUSAND = """\
question: q
experiment: tiny
axes:
  lora.rank: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
  loss.beta: [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
baseline: {lora.rank: 1, loss.beta: 10}
seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
"""


def test_a_sweep_in_arrays_of_four(
    slurm: OneNode, plan_of: Planner, store: Store, submit_plan: Submit, fake_log: Path
) -> None:
    slurm.reconfigure(max_array_size=4)
    plan = plan_of(SMALL.replace("[0]", "[0, 1, 2]"))
    done = submit_plan(plan)
    assert done.jobs == len(plan.nodes)
    (launch,) = launches(store)
    sizes = [len(array.keys) for array in launch.arrays() if array.keys]
    assert (max(sizes), len(sizes)) == (4, done.arrays)
    wait_for_end()
    assert undone(plan, store) == [], logs(store)
    assert set(runs(fake_log).values()) == {1}


def _processor_seconds() -> float:
    """Of this process and of the commands that it has called: the same under any load of the machine."""
    return sum(os.times()[:4])


def test_a_thousand_cells_are_submitted_in_seconds(
    slurm: OneNode,
    plan_of: Planner,
    store: Store,
    submit_plan: Submit,
    capsys: pytest.CaptureFixture[str],
    yardstick: float,
) -> None:
    command("scontrol", "update", "PartitionName=low", "State=DOWN")  # queues jobs and starts none
    try:
        plan = plan_of(THOUSAND)
        begin = _processor_seconds()
        done = submit_plan(plan)
        seconds = _processor_seconds() - begin
        waiting = queue()
        again = submit_plan(plan)
    finally:
        command("scancel", "--me")
        command("scontrol", "update", "PartitionName=low", "State=UP")
    with capsys.disabled():
        print(f"\n{done.jobs:,} stages of 1,000 cells: {seconds:.1f} s of processor time, {done.arrays} arrays")
    assert len(plan.cells) == 1001
    assert len(waiting) == done.jobs == len(plan.nodes)
    assert done.arrays == 8, "one per kind and level; those of the base model are levels of their own"
    assert (again.launch, again.queued) == (None, done.jobs)
    assert seconds < 30 * yardstick


def test_what_is_beyond_the_limit_follows_by_itself(
    slurm: OneNode, plan_of: Planner, store: Store, submit_plan: Submit, world: Path, fake_log: Path
) -> None:
    path = world / "small_queue.yaml"
    path.write_text(PROFILE.read_text() + "max_submit: 8\n")
    plan = plan_of(TWO_RANKS)
    done = submit_plan(plan, read_profile(path))
    assert (done.jobs, done.later) == (7, len(plan.nodes) - 7)
    assert len(queue()) <= 7
    wait_for(lambda: not undone(plan, store), "the rest to be submitted and done")
    assert set(runs(fake_log).values()) == {1}
    assert len(launches(store)) == 2


def test_no_room_in_the_queue(plan_of: Planner, submit_plan: Submit, profile: Profile, store: Store) -> None:
    job = command("sbatch", "--parsable", "--array=0-7", "--hold", "--mem=10", "--wrap=true").strip()
    with pytest.raises(UserError, match=r"the queue has room for 1 more of your jobs.* \(see max_submit in .*yaml\)"):
        submit_plan(plan_of(TWO_RANKS), replace(profile, max_submit=9))
    command("scancel", job)
    assert launches(store) == []


def test_a_refusal_tells_slurms_own_words_and_the_next_call_goes_on(
    plan_of: Planner, submit_plan: Submit, profile: Profile, store: Store
) -> None:
    wrong = {**profile.stages, "train": replace(profile.default, partition="nowhere")}
    plan = plan_of(TWO_RANKS)
    with pytest.raises(UserError, match=r"the train jobs .*invalid partition specified: nowhere") as refusal:
        submit_plan(plan, replace(profile, stages=wrong))
    assert str(profile.path) in str(refusal.value)
    (launch,) = launches(store)
    before = {array.stage for array in launch.arrays()}
    assert before >= {"score", "select"}
    assert not before & {"train", "finish"}
    again = submit_plan(plan)
    wait_for_end()
    assert again.launch is not None
    assert undone(plan, store) == [], logs(store)


def test_what_a_killed_launcher_left_is_cancelled(
    plan_of: Planner, submit_plan: Submit, store: Store, fake_log: Path
) -> None:
    plan = plan_of(TWO_RANKS)
    submit_plan(plan)
    (launch,) = launches(store)
    records = dict(launch.records())
    number, train = next((number, array) for number, array in records.items() if array.stage == "train")
    command("scontrol", "hold", train.job)
    held, unknown = replace(train, held=True), replace(records[1], job="")
    launch.record(held, number)
    launch.record(unknown, 1)
    submit_plan(plan)
    assert train.job not in {job.partition("_")[0] for job in queue()}
    wait_for_end()
    assert undone(plan, store) == [], logs(store)


def test_training_waits_for_the_rehearsal_of_its_shape(
    plan_of: Planner, submit_plan: Submit, store: Store, fake_log: Path
) -> None:
    plan = plan_of(TWO_RANKS.replace("lora.rank", "loss.beta").replace("[4, 8]", "[666, 5]").replace(": 4", ": 5"))
    done = submit_plan(plan, canary=True)
    assert done.rehearsed > 5
    wait_for_end()
    rest = undone(plan, store)
    assert {label.split()[0] for label in rest} == {"train", "generate", "evaluate"}
    assert not (store.root / "attempts" / "train").exists(), "the rehearsal of their shape failed"
    assert (store.root / "dryrun" / "attempts" / "train").is_dir()
    assert (store.root / "dryrun" / "artefacts" / "encode").is_dir()
