"""The local runner on the cheap stages."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from ablations.planning.plan import Plan
from ablations.running.display import Lines
from ablations.running.local import RunResult, run
from ablations.store.artefacts import Store
from tests.ablations import fake_stages
from tests.conftest import ROOT

ENV = {"PYTHONPATH": str(ROOT)}
PRELOAD = ("omegaconf", "pytest", fake_stages.HERE)


def command(sweep: str = "sweeps/a.yaml", runs: str = "runs", jobs: int = 2) -> list[str]:
    return [sys.executable, "-m", "tests.ablations.launch_fake", sweep, runs, str(jobs)]


def events(log: Path) -> Counter[str]:
    return Counter(log.read_text().splitlines()) if log.exists() else Counter()


def run_plan(plan: Plan, store: Store, jobs: int = 2) -> RunResult:
    return run(plan, store, Lines(sys.stdout), jobs, table=fake_stages.HERE, preload=PRELOAD)
