"""Invariants 3 and 4 at scale on cheap stages: kills only cost time, and two launchers share the work.

``KILLS=100 make test ARGS=tests/ablations/running/test_kills_and_races.py`` kills more often than a usual test run.
"""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from ablations.recovery.deletion import free
from ablations.recovery.gc import find_garbage
from ablations.store.artefacts import Store
from ablations.store.liveness import in_use
from tests.ablations import fake_stages
from tests.ablations.conftest import SMALL, SWEEP, Planner
from tests.ablations.kill import random_instants, run_with_kills, tree
from tests.ablations.local_run import ENV, command, events, run_plan

KILLS = int(os.environ.get("KILLS", "12"))
EARLY = KILLS // 4
"""So many of them at any instant from the start of Python on; the others hit stages in work."""
ROUNDS = max(1, KILLS // 12)
STEPS = max(60, 5 * KILLS)
"""Of each of three trainings, so that the last kill too meets a run that is under way."""


@pytest.mark.slow
def test_many_kills_end_in_the_same_bytes(plan_of: Planner, store: Store, world: Path, fake_log: Path) -> None:
    plan = plan_of(SMALL + f"overrides: {{training.steps: {STEPS}}}\n")
    run_plan(plan, store)
    undisturbed = tree(Path("runs/artefacts"))
    fake_log.unlink()
    work = {**ENV, "FAKE_STEP_S": "0.04", "FAKE_LINGER_S": "0.05"}
    alone = command(runs="killed", jobs=1)
    early, later = random_instants(EARLY, 0.5, seed=1), random_instants(KILLS - EARLY, 0.1, seed=2)
    whole = [random.Random(number).random() < 0.5 for number in range(KILLS)]

    def begun() -> int:
        return events(fake_log).total()

    kills = run_with_kills(alone, early, world, world / "log", work, whole[:EARLY], finish=False)
    kills += run_with_kills(alone, later, world, world / "log", work, whole[EARLY:], begun=begun)

    assert len(kills) == KILLS, "every kill must hit a running command"
    assert tree(world / "killed" / "artefacts") == undisturbed
    counts = events(fake_log)
    executions = sum(count for line, count in counts.items() if line.startswith("run "))
    assert executions <= len(plan.nodes) + KILLS
    steps = sum(count for line, count in counts.items() if line.startswith("step-"))
    trains = sum(node.stage == "train" for node in plan.nodes.values())
    assert steps <= STEPS * trains + KILLS, "at most the step in work is repeated"
    killed = Store(world / "killed", fake_stages.key_of)
    assert in_use(killed).keys == frozenset(), "no claim holds"
    free(killed, find_garbage(killed, Path("sweeps"), fake_stages))
    assert not list(killed.claims.folder.iterdir()), "claims of owners that were killed after sealing can be freed"
    assert not list((world / "killed" / "partial").rglob("*.*"))


@pytest.mark.slow
@pytest.mark.parametrize("sweeps", [("a", "a"), ("a", "b")], ids=["the same sweep", "sweeps that share stages"])
def test_two_launchers_started_together_run_each_stage_once(
    sweeps: tuple[str, str], plan_of: Planner, world: Path, fake_log: Path
) -> None:
    plans = {"a": plan_of(SMALL, "a"), "b": plan_of(SWEEP, "b")}
    wanted = {f"run {node.stage}/{key}": 1 for name in sweeps for key, node in plans[name].nodes.items()}
    if sweeps == ("a", "b"):
        assert set(plans["a"].nodes) & set(plans["b"].nodes)
    env = {**os.environ, **ENV, "FAKE_STEP_S": "0.01"}
    for number in range(ROUNDS):
        pair = [
            subprocess.Popen(
                command(f"sweeps/{name}.yaml", f"race{number}"), cwd=world, env=env, stdout=subprocess.PIPE, text=True
            )
            for name in sweeps
        ]
        outputs = [process.communicate(timeout=120)[0] for process in pair]
        assert [process.returncode for process in pair] == [0, 0], outputs
        ran = {line: count for line, count in events(fake_log).items() if line.startswith("run ")}
        assert ran == wanted
        fake_log.unlink()
