"""A real one-node SLURM for the tests of this folder, and cheap sweeps to run on it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.planning.plan import Plan
from ablations.running import local
from ablations.running.display import Lines
from ablations.slurm import finish_job, query
from ablations.slurm.profile import Profile, read_profile
from ablations.slurm.submit import Submitted, submit
from ablations.store.artefacts import Store
from tests.ablations import fake_stages
from tests.ablations.conftest import plan_of, store, world
from tests.ablations.local_run import PRELOAD
from tests.conftest import ROOT
from tests.slurm.one_node import OneNode, install
from tests.slurm.watch import scancel_all

__all__ = ["plan_of", "store", "world"]
PROFILE = Path(__file__).with_name("one_node.yaml")
Submit = Callable[..., Submitted]
Prepare = Callable[..., None]


@pytest.fixture(scope="session")
def daemons() -> Iterator[OneNode]:
    """The daemons of a SLURM with one node; ``SLURM_CONF`` points every command at them."""
    reason = install()
    if reason:
        pytest.skip(f"waits for a SLURM on this machine: {reason}")
    node = OneNode(Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp")))  # short: sockets have short names
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(node.conf))
        patch.setenv("PYTHONPATH", str(ROOT))  # the cheap stages are in no snapshot
        try:
            node.start()
            yield node
        finally:
            node.stop()


@pytest.fixture
def slurm(daemons: OneNode, monkeypatch: pytest.MonkeyPatch) -> Iterator[OneNode]:
    """The SLURM, with an empty queue."""
    monkeypatch.setattr(query, "_answered", [])  # no other test of this process is to know its name
    yield daemons
    scancel_all()
    if daemons.changed:
        daemons.restore()


@pytest.fixture
def profile() -> Profile:
    """The profile of the one-node SLURM; training asks for no GPU, so that all cores can be used."""
    read = read_profile(PROFILE)
    return replace(read, stages={**read.stages, "train": read.default})


@pytest.fixture
def fake_log(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the cheap stages note what they do."""
    path = world / "events.log"
    path.touch()
    monkeypatch.setenv("FAKE_LOG", str(path))
    return path


@pytest.fixture
def submit_plan(slurm: OneNode, store: Store, profile: Profile, fake_log: Path) -> Submit:
    """Submit a plan of cheap stages."""

    def run(plan: Plan, site: Profile = profile, canary: bool = False) -> Submitted:
        arguments = {"name": plan.sweep.name, "experiment": None, "seeds": None}
        return submit(plan, store, site, arguments, finish_job.run, fake_stages.HERE, canary)

    return run


@pytest.fixture
def prepare(store: Store, fake_log: Path) -> Prepare:
    """Do on this machine, without a job, the stages of a plan that need no training.

    A job starts Python twice, so a test of trainings has only them and what follows them in the queue. Stages of the
    kinds in ``but`` are left to jobs, with those that need them.
    """

    def run(plan: Plan, but: Collection[str] = ()) -> None:
        ready: set[str] = set()
        for key, node in plan.nodes.items():  # inputs stand before their users
            if node.stage not in ("train", *but) and ready.issuperset(node.inputs.values()):
                ready.add(key)
        with fake_log.with_name("prepared.log").open("w") as log:
            result = local.run(plan, store, Lines(log), 2, fake_stages.HERE, PRELOAD, only=ready)
        assert not result.failures

    return run


@pytest.fixture(autouse=True)
def _job_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first job compiles the snapshot's modules for all others.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    for name in list(os.environ):
        if name.startswith("SLURM_") and name != "SLURM_CONF":
            monkeypatch.delenv(name)
