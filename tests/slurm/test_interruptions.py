"""Preemption, a lost node and restarted daemons: the sweep ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from ablations.inspection.status import status, status_lines
from ablations.planning.plan import Plan
from ablations.slurm import query
from ablations.store.artefacts import Store
from ablations.store.launches import latest_jobs
from qsd.errors import UserError
from tests.ablations.conftest import TWO_RANKS, Planner
from tests.slurm.conftest import Prepare, Submit
from tests.slurm.one_node import CPUS, OneNode
from tests.slurm.watch import command, job_of, logs, queue, runs, undone, wait_for, wait_for_end

pytestmark = pytest.mark.slow


def step(fake_log: Path, number: int) -> int:
    """How many cells have begun a training step."""
    return fake_log.read_text().count(f"step-{number} ")


def repeated(fake_log: Path) -> list[str]:
    """Training steps that were made more than once."""
    steps = [line for line in fake_log.read_text().splitlines() if line.startswith("step-")]
    return sorted({line for line in steps if steps.count(line) > 1})


def restarts(plan_store: Store) -> int:
    """The most restarts of any job of a store."""
    states = query.states(ticket.job for ticket in latest_jobs(plan_store).values())
    assert states is not None
    return max(state.restarts for state in states.values())


@pytest.fixture(autouse=True)
def _steps_take_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "3")


@pytest.fixture
def plan(plan_of: Planner, prepare: Prepare) -> Plan:
    """Two trainings and what follows them, of which nothing has run; the rest is done."""
    made = plan_of(TWO_RANKS)
    prepare(made)
    return made


def test_a_preempted_job_is_requeued_and_goes_on(plan: Plan, submit_plan: Submit, store: Store, fake_log: Path) -> None:
    submit_plan(plan)
    wait_for(lambda: step(fake_log, 1) == 2, "a training step of both cells")
    urgent = command("sbatch", "--parsable", "--partition=high", f"--cpus-per-task={CPUS}", "--mem=10", "--wrap=true")
    wait_for(lambda: urgent.strip() not in queue(), "the urgent job to have run")
    wait_for_end()
    assert undone(plan, store) == [], logs(store)
    assert repeated(fake_log) == [], "both went on from their checkpoints"
    assert sorted(runs(fake_log).values())[-2:] == [2, 2]
    assert restarts(store) == 1


def test_a_lost_node(slurm: OneNode, plan: Plan, submit_plan: Submit, store: Store, fake_log: Path) -> None:
    submit_plan(plan)
    wait_for(lambda: step(fake_log, 1) == 2, "a training step of both cells")
    slurm.kill("slurmd")
    kill_jobs()
    slurm.lose_node()  # what the controller does by itself after SlurmdTimeout
    slurm.start_slurmd()
    wait_for_end()
    assert restarts(store) >= 1
    assert undone(plan, store) == [], logs(store)
    assert repeated(fake_log) == []


def test_a_restarted_slurmd_finds_its_jobs_alive(
    slurm: OneNode, plan: Plan, submit_plan: Submit, store: Store, fake_log: Path
) -> None:
    submit_plan(plan)
    wait_for(lambda: step(fake_log, 1) == 2, "a training step of both cells")
    slurm.kill("slurmd")
    slurm.start_slurmd()
    wait_for_end()
    assert undone(plan, store) == [], logs(store)
    assert set(runs(fake_log).values()) == {1}


def test_a_silent_controller_is_no_answer_and_a_restarted_one_goes_on(
    slurm: OneNode, plan: Plan, submit_plan: Submit, store: Store, fake_log: Path
) -> None:
    submit_plan(plan)
    wait_for(lambda: step(fake_log, 1) == 2, "a training step of both cells")
    job = job_of(plan, store, "train")
    slurm.save()  # a crash may forget what happened since the last save: the tests below
    slurm.kill("slurmctld")
    assert query.job_state(job) is None
    with pytest.raises(UserError, match="the SLURM controller does not answer"):
        submit_plan(plan)
    slurm.start_slurmctld()
    state = query.job_state(job)
    assert state is not None
    assert state.alive or state.state == "COMPLETED"
    assert submit_plan(plan).jobs == 0
    wait_for_end()
    assert undone(plan, store) == [], logs(store)
    assert set(runs(fake_log).values()) == {1}


def state_of(plan: Plan, store: Store, stage: str) -> str:
    """What SLURM says of the job of the first cell's stage."""
    state = query.job_state(job_of(plan, store, stage))
    assert state is not None
    return state.state


def start_after_crash(slurm: OneNode) -> None:
    """Start the controller, and use up the job numbers that it has forgotten to have given.

    A node that remembers such a number refuses the new job, and SLURM then drains the node ("Duplicate jobid").
    """
    slurm.start_slurmctld()
    for _ in range(5):
        command("scancel", command("sbatch", "--parsable", "--hold", "--mem=10", "--wrap=true").strip())


@pytest.fixture
def crashed(
    slurm: OneNode,
    plan_of: Planner,
    prepare: Prepare,
    submit_plan: Submit,
    store: Store,
    fake_log: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Plan:
    """A plan whose trainings run, while the controller is down, and has saved nothing since ``select`` ran."""
    gate = fake_log.with_name("gate")
    monkeypatch.setenv("FAKE_GATE", f"select:{gate}")
    plan = plan_of(TWO_RANKS)
    prepare(plan, but=["select"])
    submit_plan(plan)
    wait_for(lambda: "run select/" in fake_log.read_text(), "the selection to have begun")
    remembered = slurm.save()
    gate.touch()
    wait_for(lambda: step(fake_log, 1) == 2, "a training step of both cells")
    slurm.crash(remembered)
    return plan


@pytest.fixture
def forgetful(slurm: OneNode, crashed: Plan, store: Store) -> Plan:
    """A plan whose trainings ended without a controller; restarted, it believes that they wait for ``select``."""
    trained = lambda: not any(label.startswith("train") for label in undone(crashed, store))  # noqa: E731
    wait_for(trained, "the trainings", 60, scene=False)
    start_after_crash(slurm)
    return crashed


def test_jobs_that_wait_for_a_forgotten_end_are_told_and_freed(
    forgetful: Plan, submit_plan: Submit, store: Store, fake_log: Path
) -> None:
    assert state_of(forgetful, store, "select") == "RUNNING", "so SLURM believes"
    overview = status(forgetful, store)
    assert overview["stale"] == ["generate rank=4 seed 0", "generate rank=8 seed 0"]
    assert any("'ablate resume a' releases them" in line for line in status_lines(overview))
    done = submit_plan(forgetful)
    assert (done.jobs, done.queued, done.freed) == (0, 4, 2)
    wait_for(lambda: not undone(forgetful, store), "all stages")
    assert set(runs(fake_log).values()) == {1}
    assert status(forgetful, store)["stale"] == []


def test_jobs_that_a_forgotten_end_has_cancelled_are_submitted_again(
    forgetful: Plan, submit_plan: Submit, store: Store, fake_log: Path
) -> None:
    """As the time limit of the job does that has ended without the controller's knowledge."""
    command("scancel", job_of(forgetful, store, "select"))
    wait_for(lambda: state_of(forgetful, store, "generate") == "CANCELLED", "the end of what waits for it")
    done = submit_plan(forgetful)
    assert (done.jobs, done.queued, done.freed) == (4, 0, 0)
    wait_for(lambda: not undone(forgetful, store), "all stages")
    assert set(runs(fake_log).values()) == {1}


def test_running_jobs_that_a_crash_has_forgotten_go_on(
    slurm: OneNode, crashed: Plan, submit_plan: Submit, store: Store, fake_log: Path
) -> None:
    """The restarted controller takes them for waiting ones, and may kill them when their node registers."""
    start_after_crash(slurm)
    training = [key for key, node in crashed.nodes.items() if node.stage == "train"]
    wait_for(lambda: not any(store.claims.holder(key) for key in training), "the trainings to end or to be killed")
    done = submit_plan(crashed)
    assert (done.jobs, done.freed) == (0, 2), "the trainings, or what waits for them"
    wait_for(lambda: not undone(crashed, store), "all stages")
    assert repeated(fake_log) == []


def kill_jobs() -> None:
    """Kill what this SLURM runs, as the loss of its node would: the daemons of steps, and processes of jobs.

    The daemons go first: one that saw its job die would report a failed job before the node is known to be lost.
    """
    conf = f"SLURM_CONF={os.environ['SLURM_CONF']}".encode()
    daemons, processes = set[int](), set[int]()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            name = Path(f"/proc/{parent}/comm").read_text().strip()
        except OSError:
            continue
        if conf in environment and any(each.startswith(b"SLURM_JOB_ID=") for each in environment):
            processes.add(int(folder.name))
            daemons |= {parent} if name == "slurmstepd" else set()
    for pid in [*daemons, *(processes - daemons)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
