"""``ablate run`` with looks over the scoring stages: ``python -m tests.ablations.launch_looks SWEEP.yaml``."""

from __future__ import annotations

import sys
from pathlib import Path

from ablations.commands import launch
from ablations.grid.spec import read_sweep
from ablations.planning.looks import limited
from ablations.planning.plan import make_plan
from ablations.store.artefacts import Store
from qsd import console
from tests.ablations import scoring_stages


def main(sweep: str) -> int:
    store = Store(Path("runs"), scoring_stages.key_of)
    plan = limited(make_plan(read_sweep(Path(sweep)), scoring_stages), store)
    # This module too: an attempt imports the launcher's main program.
    preload = ("omegaconf", "pyarrow.parquet", "tests.ablations.launch_looks", scoring_stages.HERE)
    return launch.run(plan, store, 2, scoring_stages.HERE, preload)


if __name__ == "__main__":
    console.run(lambda: sys.exit(main(*sys.argv[1:])))
