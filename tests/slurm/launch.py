"""``ablate run --cluster`` over the cheap stages: ``python -m tests.slurm.launch SWEEP.yaml RUNS PROFILE.yaml``."""

from __future__ import annotations

import sys
from pathlib import Path

from ablations.grid.spec import read_sweep
from ablations.planning.plan import make_plan
from ablations.slurm import finish_job
from ablations.slurm.profile import read_profile
from ablations.slurm.submit import submit
from ablations.store.artefacts import Store
from tests.ablations import fake_stages


def main(sweep: str, runs: str, profile: str) -> None:
    plan = make_plan(read_sweep(Path(sweep)), fake_stages)
    store = Store(Path(runs), fake_stages.key_of)
    arguments = {"name": plan.sweep.name, "experiment": None, "seeds": None}
    print(submit(plan, store, read_profile(Path(profile)), arguments, finish_job.run, fake_stages.HERE))


if __name__ == "__main__":
    main(*sys.argv[1:])
