"""``ablate run`` over the cheap stages: ``python -m tests.ablations.launch_fake SWEEP.yaml RUNS JOBS [GPUS]``."""

from __future__ import annotations

import sys
from pathlib import Path

from ablations.grid.spec import read_sweep
from ablations.planning.plan import make_plan
from ablations.running import local
from ablations.running.display import Lines
from ablations.running.slots import read_gpus
from ablations.store.artefacts import Store
from qsd import console
from tests.ablations import fake_stages


def main(sweep: str, runs: str, jobs: str, gpus: str | None = None) -> int:
    plan = make_plan(read_sweep(Path(sweep)), fake_stages)
    result = local.run(
        plan,
        Store(Path(runs), fake_stages.key_of),
        Lines(sys.stdout),
        int(jobs),
        table=fake_stages.HERE,
        preload=("omegaconf", "tests.ablations.chatty", "tests.ablations.launch_fake", fake_stages.HERE),
        gpus=read_gpus(gpus),
    )
    if result.signal is not None:
        return 128 + result.signal
    return 1 if result.failures else 0


if __name__ == "__main__":
    console.run(lambda: sys.exit(main(*sys.argv[1:])))
