"""Signals to a stage on a real SLURM: it goes on where it was, ends where it stands still, or stays cancelled."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablations.files import numbered
from ablations.grid.keys import StageNode
from ablations.planning.plan import Plan
from ablations.slurm import query
from ablations.slurm.profile import Profile
from ablations.store import attempts
from ablations.store.artefacts import Store
from tests.ablations.conftest import Planner
from tests.slurm.conftest import Prepare, Submit
from tests.slurm.one_node import CPUS, OneNode
from tests.slurm.watch import command, job_of, logs, queue, release_requeued, undone, wait_for, wait_for_end

pytestmark = pytest.mark.slow
ONE = """\
question: q
experiment: tiny
axes: {lora.rank: [4]}
baseline: {lora.rank: 4}
seeds: [0]
overrides: {training.steps: 25}
"""


@pytest.fixture
def plan(plan_of: Planner, prepare: Prepare, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A training and what follows it, of which nothing has run; the rest is done."""
    monkeypatch.setenv("FAKE_STEP_S", "0.4")
    made = plan_of(ONE)
    prepare(made)
    return made


def train_of(plan: Plan) -> StageNode:
    return next(node for node in plan.nodes.values() if node.stage == "train")


def records(store: Store, plan: Plan, name: str) -> list[dict[str, Any]]:
    """``attempt.json`` or ``exit.json`` of every attempt at the training."""
    node = train_of(plan)
    attempts = store.attempts("train", node.key)
    folders = [attempts / str(number) for number in numbered(attempts)]
    return [json.loads((folder / name).read_text()) for folder in folders if (folder / name).exists()]


def endings(store: Store, plan: Plan) -> list[tuple[str, str | None]]:
    return [(each["state"], each.get("signal")) for each in records(store, plan, attempts.EXIT)]


def steps(fake_log: Path) -> list[int]:
    lines = fake_log.read_text().splitlines()
    return [int(line.split()[0].removeprefix("step-")) for line in lines if line.startswith("step-")]


def await_step(fake_log: Path, number: int) -> None:
    wait_for(lambda: number in steps(fake_log) or release_requeued(), f"step {number}")


def assert_done_without_loss(plan: Plan, store: Store, fake_log: Path) -> None:
    assert undone(plan, store) == [], logs(store)
    assert steps(fake_log) == list(range(1, 26)), "no step is lost, none is repeated"


def test_the_warning_signal_requeues_a_stage_that_gets_further(
    plan: Plan, submit_plan: Submit, store: Store, fake_log: Path
) -> None:
    submit_plan(plan)
    for step in (3, 10):
        await_step(fake_log, step)
        command("scancel", "--signal=USR2", job_of(plan, store, "train"))
        wait_for(lambda: "PENDING" in queue().values(), "the requeued job")
    wait_for_end()
    assert_done_without_loss(plan, store, fake_log)
    assert endings(store, plan) == [("interrupted", "SIGUSR2")] * 2 + [("done", None)]
    assert [each["slurm"]["restarts"] for each in records(store, plan, attempts.ATTEMPT)] == [0, 1, 2]


def test_a_training_on_two_gpus_stops_and_goes_on_in_two_processes(
    plan: Plan, submit_plan: Submit, store: Store, fake_log: Path, profile: Profile
) -> None:
    two = replace(profile, stages={**profile.stages, "train": replace(profile.default, gpus=2)})
    submit_plan(plan, two)
    await_step(fake_log, 3)
    command("scancel", "--signal=USR2", job_of(plan, store, "train"))
    wait_for(lambda: "PENDING" in queue().values(), "the requeued job")
    wait_for_end()
    assert_done_without_loss(plan, store, fake_log)
    assert endings(store, plan) == [("interrupted", "SIGUSR2"), ("done", None)]
    assert [each["processes"] for each in records(store, plan, attempts.ATTEMPT)] == [2, 2]
    lines = [line.split()[:2] for line in fake_log.read_text().splitlines()]
    assert lines.count(["process", "1"]) == 2
    assert ["enter-0,1", f"train/{train_of(plan).key}"] in lines, "SLURM has given it both GPUs"
    scripts = [path.read_text() for path in (store.root / "submitit").rglob("*submission*.sh")]
    asked = [script for script in scripts if "--gpus-per-node=2" in script]
    assert asked
    assert all("--job-name=train:" in script for script in asked)
    assert all("--nodes=1" in script and "--ntasks" not in script for script in asked), "one task starts them itself"


def test_a_stage_that_stands_still_is_not_requeued_for_ever(
    plan: Plan, submit_plan: Submit, store: Store, fake_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "1000")
    submit_plan(plan)
    job = job_of(plan, store, "train")
    for number in (1, 2):
        wait_for(
            lambda number=number: fake_log.read_text().count("run train/") == number or release_requeued(),
            f"attempt {number}",
        )
        command("scancel", "--signal=USR2", job)
        wait_for(lambda number=number: len(endings(store, plan)) == number, "the end of the attempt")
    wait_for_end()
    assert endings(store, plan) == [("interrupted", "SIGUSR2"), ("failed", "SIGUSR2")]
    reason = records(store, plan, attempts.EXIT)[-1]["reason"]
    assert reason.startswith("no progress: stopped at its beginning again")
    state = query.job_state(job)
    assert state is not None
    assert state.state == "FAILED", "what waits for it must not start"
    assert [label.split()[0] for label in undone(plan, store)] == ["train", "generate", "evaluate"]


def test_a_cancelled_stage_stays_cancelled_and_keeps_its_work(
    plan: Plan, submit_plan: Submit, store: Store, fake_log: Path
) -> None:
    submit_plan(plan)
    await_step(fake_log, 3)
    job = job_of(plan, store, "train")
    command("scancel", job)
    wait_for_end()
    state = query.job_state(job)
    assert state is not None
    assert (state.state, state.restarts) == ("CANCELLED", 0)
    assert endings(store, plan) == [("interrupted", "SIGTERM")]
    assert store.claims.holder(train_of(plan).key) is None
    submit_plan(plan)
    wait_for_end()
    assert_done_without_loss(plan, store, fake_log)


def test_a_requeue_by_the_administrator(plan: Plan, submit_plan: Submit, store: Store, fake_log: Path) -> None:
    submit_plan(plan)
    await_step(fake_log, 3)
    command("scontrol", "requeue", job_of(plan, store, "train"))
    wait_for_end()
    assert_done_without_loss(plan, store, fake_log)
    assert [each["slurm"]["restarts"] for each in records(store, plan, attempts.ATTEMPT)] == [0, 1]


def test_a_killed_attempt_leaves_a_reason_and_a_failed_job(
    plan: Plan, submit_plan: Submit, store: Store, fake_log: Path
) -> None:
    """As the kernel does when memory runs out."""
    submit_plan(plan)
    await_step(fake_log, 3)
    (record,) = records(store, plan, attempts.ATTEMPT)
    os.kill(record["owner"]["pid"], signal.SIGKILL)
    wait_for_end()
    (ending,) = records(store, plan, attempts.EXIT)
    assert ending["state"] == "failed"
    assert ending["reason"] == "killed by SIGKILL; the node or the job's memory may be exhausted"
    state = query.job_state(job_of(plan, store, "train"))
    assert state is not None
    assert state.state == "FAILED"
    submit_plan(plan)
    wait_for_end()
    assert undone(plan, store) == [], logs(store)


def test_a_node_without_scontrol_leaves_the_rest_to_a_later_launch(
    plan: Plan, submit_plan: Submit, store: Store, fake_log: Path, profile: Profile, world: Path
) -> None:
    tools = world / "tools"
    tools.mkdir()
    (tools / "srun").symlink_to("/usr/bin/srun")
    bare = replace(profile, setup=(*profile.setup, f"export PATH={tools}"))
    submit_plan(plan, bare)
    await_step(fake_log, 3)
    job = job_of(plan, store, "train")
    command("scancel", "--signal=USR2", job)
    wait_for_end()
    state = query.job_state(job)
    assert state is not None
    assert (state.state, state.restarts) == ("FAILED", 0)
    assert endings(store, plan) == [("interrupted", "SIGUSR2")]
    submit_plan(plan)
    wait_for_end()
    assert_done_without_loss(plan, store, fake_log)


def test_a_preemption_that_sends_sigterm_alone(
    plan: Plan, slurm: OneNode, submit_plan: Submit, store: Store, fake_log: Path
) -> None:
    """A site without ``preempt_send_user_signal``: the job still counts as running, which tells this from scancel."""
    text = slurm.conf.read_text()
    slurm.conf.write_text(text.replace("SlurmctldParameters=preempt_send_user_signal\n", ""))
    command("scontrol", "reconfigure")
    try:
        submit_plan(plan)
        await_step(fake_log, 3)
        command("srun", "--partition=high", f"--cpus-per-task={CPUS}", "--mem=10", "true")
        wait_for_end()
    finally:
        slurm.conf.write_text(text)
        command("scontrol", "reconfigure")
    assert_done_without_loss(plan, store, fake_log)
    assert endings(store, plan) == [("interrupted", "SIGTERM"), ("done", None)]
