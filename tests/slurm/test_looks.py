"""Seeds that stop on a real SLURM: the last job of a look's launch decides, and submits the seeds of the next look."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablations.slurm import finish_job
from ablations.slurm.profile import Profile
from ablations.slurm.resubmit import resubmit
from ablations.slurm.submit import submit
from ablations.store.artefacts import Store
from ablations.store.launches import launches
from tests.ablations import scoring_stages
from tests.ablations.looked_at import SWEEP, plan_now, reasons, seeds
from tests.slurm.one_node import OneNode
from tests.slurm.watch import command, logs, queue, wait_for

pytestmark = pytest.mark.slow
TWO_LOOKS = SWEEP.replace("[3, 4, 6]", "[2, 3]")


def test_the_last_job_of_a_look_submits_the_next(slurm: OneNode, world: Path, profile: Profile, fake_log: Path) -> None:
    store = Store(world / "runs", scoring_stages.key_of)
    plan = plan_now(store, TWO_LOOKS)
    arguments = {"name": plan.sweep.name, "experiment": None, "seeds": None}
    first = submit(plan, store, profile, arguments, finish_job.run, scoring_stages.HERE)
    assert first.jobs == len(plan.nodes)

    wait_for(lambda: (world / "runs/sweeps/ranks@tiny/table.md").exists() and not queue(), "the table", 900)
    last = plan_now(store, TWO_LOOKS)
    assert reasons(last) == {"rank=8": "different", "rank=16": "equivalent", "rank=32": "undecided"}, logs(store)
    assert seeds(last) == {"rank=4": 3, "rank=8": 2, "rank=16": 2, "rank=32": 3}
    assert len(launches(store)) == 2
    submitted = [key for launch in launches(store) for array in launch.arrays() for key in array.keys]
    assert sorted(submitted) == sorted(last.nodes), "every stage that is needed, and each once"

    wait_for(lambda: not command("squeue", "--noheader"), "the end of the last job", 300)
    content = json.loads((world / "runs/sweeps/ranks@tiny/cells.json").read_text())
    assert content["looks"]["cells"]["rank=32"] == {
        **content["looks"]["cells"]["rank=32"],
        "reason": "undecided",
        "look": 2,
    }
    assert "10 of 12 trainings were needed" in (world / "runs/sweeps/ranks@tiny/table.md").read_text()
    again = resubmit(store.root, launches(store)[-1].arguments, launches(store)[-1].profile, finish_job.run)
    assert str(again).startswith("nothing to submit: every stage is done")
