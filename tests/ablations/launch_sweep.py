"""``ablate run`` over another stage table: ``python -m tests.ablations.launch_sweep SWEEP.yaml TABLE``."""

from __future__ import annotations

import sys
from pathlib import Path

from ablations.commands import launch
from ablations.grid.spec import read_sweep
from ablations.planning.needed import needed
from ablations.planning.plan import make_plan
from ablations.store.artefacts import Store
from ablations.store.jobs import load_table
from qsd import console


def main(sweep: str, table: str) -> int:
    stages = load_table(table)
    store = Store(Path("runs"), stages.key_of)
    plan = needed(make_plan(read_sweep(Path(sweep)), stages), store)
    # This module too: an attempt imports the main program, and what it imports is then there already.
    return launch.run(plan, store, 2, table, ("omegaconf", "pyarrow.parquet", "tests.ablations.launch_sweep", table))


if __name__ == "__main__":
    console.run(lambda: sys.exit(main(*sys.argv[1:])))
