"""``ablate run`` of a sweep with looks: each look follows the one before, after a failure and after a kill too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.ablations import scoring_stages
from tests.ablations.conftest import set_log, write_world
from tests.ablations.looked_at import SWEEP
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
TRAININGS = 6 + 3 + 3 + 6
"""Of the baseline, of the two cells that stop at the first look, and of the one that stays open."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the sweep, as the current one."""
    monkeypatch.chdir(tmp_path)
    write_world(tmp_path)
    (tmp_path / "sweeps" / "ranks.yaml").write_text(SWEEP)
    set_log(monkeypatch, tmp_path / "events")
    return tmp_path


def start(**more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.ablations.launch_sweep", "sweeps/ranks.yaml", scoring_stages.HERE],
        env={**os.environ, "PYTHONPATH": str(ROOT), **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(**more: str) -> tuple[int, str]:
    """Exit status and output of a run that ends by itself."""
    process = start(**more)
    out, err = process.communicate()
    return process.returncode, out + err


def trained(root: Path) -> Counter[str]:
    """Key of a training -> how often it was begun."""
    lines = (root / "events").read_text().splitlines()
    return Counter(line.split("/")[1] for line in lines if line.startswith("run train/"))


def decided(root: Path) -> object:
    """What is written down of the looks."""
    return json.loads((root / "runs" / "sweeps" / "ranks@tiny" / "cells.json").read_text())["looks"]


def test_a_run_trains_what_the_looks_ask_for(project: Path) -> None:
    status, output = run()
    assert status == 0, output
    assert len(trained(project)) == trained(project).total() == TRAININGS
    assert "look 2 (4 seeds) is under way, 1 comparison is open" in output
    assert "18 of 24 trainings were needed: 25 % saved by stopping" in output
    again, second = run()
    assert again == 0, second
    assert trained(project).total() == TRAININGS, "the second run has nothing to do"
    assert "25 % saved by stopping" in second


def test_a_failed_seed_holds_its_look_and_a_diverged_one_ends_its_cell(project: Path) -> None:
    status, output = run(FAKE_FAILS="32/3")
    assert status == 1, output
    assert "look 2 (4 seeds) is under way" in output
    assert trained(project).total() == 4 * 3 + 1, "no seed of the third look"
    status, output = run(FAKE_DIVERGES="32/3")
    assert status == 0, output
    assert "rank=32: stopped at look 2 of 3 (4 seeds): a training diverged" in output
    assert trained(project).total() == 4 * 3 + 1, "nothing can be decided with more seeds"


def test_a_killed_run_continues_with_the_same_decisions(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    process = start(FAKE_STEP_S="0.1")
    while not (project / "events").exists() or trained(project).total() < 13:  # until the second look has begun
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    status, output = run()
    assert status == 0, output
    killed = decided(project)
    assert len(trained(project)) == TRAININGS

    for name in ("runs", "events"):
        (project / name).rename(project / f"killed-{name}")
    assert run()[0] == 0
    assert decided(project) == killed
