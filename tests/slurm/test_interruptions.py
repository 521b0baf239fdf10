"""Preemption, a lost node and restarted daemons: the sweep ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from ablations.slurm import query
from ablations.slurm.launches import tickets
from ablations.store.artefacts import Store
from qsd.errors import UserError
from tests.ablations.conftest import Planner
from tests.slurm.conftest import Submit
from tests.slurm.one_node import CPUS, OneNode
from tests.slurm.test_arrays import TWO_RANKS
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
    states = query.states(ticket.job for ticket in tickets(plan_store).values())
    assert states is not None
    return max(state.restarts for state in states.values())


@pytest.fixture(autouse=True)
def _steps_take_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_STEP_S", "3")


def test_a_preempted_job_is_requeued_and_goes_on(
    plan_of: Planner, submit_plan: Submit, store: Store, fake_log: Path
) -> None:
    plan = plan_of(TWO_RANKS)
    submit_plan(plan)
    wait_for(lambda: step(fake_log, 1) == 2, "a training step of both cells")
    urgent = command("sbatch", "--parsable", "--partition=high", f"--cpus-per-task={CPUS}", "--mem=10", "--wrap=true")
    wait_for(lambda: urgent.strip() not in queue(), "the urgent job to have run")
    wait_for_end()
    assert undone(plan, store) == [], logs(store)
    assert repeated(fake_log) == [], "both went on from their checkpoints"
    assert sorted(runs(fake_log).values())[-2:] == [2, 2]
    assert restarts(store) == 1


def test_a_lost_node(slurm: OneNode, plan_of: Planner, submit_plan: Submit, store: Store, fake_log: Path) -> None:
    plan = plan_of(TWO_RANKS)
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
    slurm: OneNode, plan_of: Planner, submit_plan: Submit, store: Store, fake_log: Path
) -> None:
    plan = plan_of(TWO_RANKS)
    submit_plan(plan)
    wait_for(lambda: step(fake_log, 1) == 2, "a training step of both cells")
    slurm.kill("slurmd")
    slurm.start_slurmd()
    wait_for_end()
    assert undone(plan, store) == [], logs(store)
    assert set(runs(fake_log).values()) == {1}


def test_a_silent_controller_is_no_answer_and_a_restarted_one_goes_on(
    slurm: OneNode, plan_of: Planner, submit_plan: Submit, store: Store, fake_log: Path
) -> None:
    plan = plan_of(TWO_RANKS)
    submit_plan(plan)
    wait_for(lambda: step(fake_log, 1) == 2, "a training step of both cells")
    job = job_of(plan, store, "train")
    slurm.kill("slurmctld")
    assert query.job_state(job) is None
    with pytest.raises(UserError, match="the SLURM controller does not answer"):
        submit_plan(plan)
    slurm.start_slurmctld()
    found = query.job_state(job)
    assert found is not None
    assert found.alive or found.state == "COMPLETED"
    assert submit_plan(plan).jobs == 0
    wait_for_end()
    assert undone(plan, store) == [], logs(store)
    assert set(runs(fake_log).values()) == {1}


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
