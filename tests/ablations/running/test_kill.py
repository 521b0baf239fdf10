"""Invariant 4 on the project's own stages: after SIGKILL anywhere, the same command ends in the same bytes.

Each start imports all libraries, so kills are few; ``KILLS=20 make test ARGS=tests/ablations/running/test_kill.py``
makes more of them. ``test_kills_and_races`` kills cheap stages more often.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.ablations.kill import Kill, run_with_kills, tree
from tests.ablations.tiny_project import ROOT, SWEEP, make_project

KILLS = int(os.environ.get("KILLS", "2"))
RESULTS = ("cells.json", "table.csv", "table.md", "effects.png", "gallery.png")
COMMAND = [sys.executable, "-m", "ablations.cli", "run", "small"]
ENV = {"PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A finished run, and the seconds from its first stage to the end."""
    root = make_project(tmp_path_factory.mktemp("undisturbed"))
    (root / "sweeps" / "small.yaml").write_text(SWEEP.replace(", winner_only", ""))
    run_with_kills(COMMAND, [], root, root / "log", ENV)
    end = time.time()
    return root, end - min((path / "attempt.json").stat().st_mtime for path in attempts(root / "runs"))


def attempts(runs: Path) -> list[Path]:
    """The folders of all attempts."""
    return list(runs.glob("attempts/*/*/*"))


def stages(runs: Path) -> list[Path]:
    """The folders of all that is done."""
    return [path.parent for path in (runs / "artefacts").glob("*/*/record.json")]


def ends(runs: Path) -> Counter[str]:
    """How often each stage was completed, by ``stage/key``."""
    done: Counter[str] = Counter()
    for path in runs.glob("attempts/*/*/*/exit.json"):
        if json.loads(path.read_text())["state"] == "done":
            done[f"{path.parts[-4]}/{path.parts[-3]}"] += 1
    return done


@pytest.mark.slow
def test_killed_at_random_instants_the_result_is_the_same(undisturbed: tuple[Path, float], tmp_path: Path) -> None:
    """By turns the launcher alone is killed, whose processes must then end by themselves, and all processes at once."""
    calm, work = undisturbed
    root = tmp_path / "project"
    shutil.copytree(calm, root, ignore=shutil.ignore_patterns("runs"))
    draw = random.Random(0)
    # Spread over the run by the stages that are done, not by time: the last kills too meet a run that is under way.
    kills: list[Kill] = []
    for number in range(KILLS):
        least = number * len(stages(calm / "runs")) * 4 // 5 // KILLS
        kills += run_with_kills(
            COMMAND,
            [draw.uniform(0, 0.05) * work],
            root,
            root / "log",
            ENV,
            everything=number % 2 == 1,
            begun=lambda least=least: len(attempts(root / "runs")) if len(stages(root / "runs")) >= least else 0,
            finish=False,
        )
    run_with_kills(COMMAND, [], root, root / "log", ENV)

    assert tree(root / "runs" / "artefacts") == tree(calm / "runs" / "artefacts")
    folder, expected = (base / "runs" / "sweeps" / "small@tiny" for base in (root, calm))
    for name in RESULTS:
        assert (folder / name).read_bytes() == (expected / name).read_bytes(), name
    assert len(kills) == KILLS, "the kills must hit a run that is under way"
    tries, done = len(attempts(root / "runs")), len(stages(root / "runs"))
    assert tries <= done + 2 * len(kills), "each kill interrupts two stages at most"
    assert all(count == 1 for count in ends(root / "runs").values()), "a completed stage is not repeated"
    assert not list((root / "runs" / "partial").rglob("*.*")), "nothing is left in work"
