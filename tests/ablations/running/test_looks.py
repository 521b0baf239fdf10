"""``ablate run`` of a sweep with looks: each look follows the one before, after a failure and after a kill too."""

from __future__ import annotations

import json
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from tests.ablations import scoring_stages, sweep_process
from tests.ablations.conftest import set_log, write_world
from tests.ablations.looked_at import SWEEP
from tests.ablations.sweep_process import trained

pytestmark = pytest.mark.slow
FEWER_SEEDS = SWEEP.replace("[3, 4, 6]", "[2, 3, 4]")
FIRST = 4 * 2
"""Trainings of the first look."""
TRAININGS = 4 + 2 + 2 + 4
"""Of the baseline, of the two cells that stop at the first look, and of the one that stays open."""


def make_project(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """A folder with the sweep, as the current one."""
    patch.chdir(folder)
    write_world(folder)
    (folder / "sweeps" / "ranks.yaml").write_text(FEWER_SEEDS)
    set_log(patch, folder / "events")
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_project(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """A project whose sweep has run, with exit status and output."""
    return sweep_process.undisturbed(make_project, run, tmp_path_factory)


run = partial(sweep_process.run, "ranks", scoring_stages.HERE)
start = partial(sweep_process.start, "ranks", scoring_stages.HERE)


def decided(root: Path) -> object:
    """What is written down of the looks."""
    return json.loads((root / "runs" / "sweeps" / "ranks@tiny" / "cells.json").read_text())["looks"]


def test_a_run_trains_what_the_looks_ask_for(
    undisturbed: tuple[Path, int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, status, output = undisturbed
    assert status == 0, output
    assert len(trained(root)) == trained(root).total() == TRAININGS
    assert "look 2 (3 seeds) is under way, 1 comparison is open" in output
    assert "12 of 16 trainings were needed: 25 % saved by stopping" in output
    monkeypatch.chdir(root)
    set_log(monkeypatch, root / "events")
    again, second = run()
    assert again == 0, second
    assert trained(root).total() == TRAININGS, "the second run has nothing to do"
    assert "25 % saved by stopping" in second


def test_a_failed_seed_holds_its_look_and_a_diverged_one_ends_its_cell(project: Path) -> None:
    status, output = run(FAKE_FAILS="32/2")
    assert status == 1, output
    assert "look 2 (3 seeds) is under way" in output
    assert trained(project).total() == FIRST + 1, "no seed of the third look"
    status, output = run(FAKE_DIVERGES="32/2")
    assert status == 0, output
    assert "rank=32: stopped at look 2 of 3 (3 seeds): a training diverged" in output
    assert trained(project).total() == FIRST + 1, "nothing can be decided with more seeds"


def test_a_killed_run_continues_with_the_same_decisions(undisturbed: tuple[Path, int, str], project: Path) -> None:
    process = start(FAKE_STEP_S="0.1")
    while not (project / "events").exists() or trained(project).total() <= FIRST:  # until the second look has begun
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    status, output = run()
    assert status == 0, output
    assert len(trained(project)) == TRAININGS
    assert decided(project) == decided(undisturbed[0])
