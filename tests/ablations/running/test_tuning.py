"""``ablate run`` of a tuned sweep: the report follows its trials, after a failure and after a kill too."""

from __future__ import annotations

import json
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.ablations import sweep_process, tuned_stages
from tests.ablations.conftest import set_log, write_world
from tests.ablations.sweep_process import trained
from tests.ablations.tuned import SMALL, write_prompts

pytestmark = pytest.mark.slow
TRIALS, REPORT = 12, 4
CHOSEN = {"loss=dpo": {"loss.beta": 1000}, "loss=ipo": {"loss.beta": 2000}}


def make(root: Path, patch: pytest.MonkeyPatch) -> Path:
    """A folder with the sweep, as the current one."""
    patch.chdir(root)
    write_world(root)
    write_prompts(root)
    (root / "sweeps" / "losses.yaml").write_text(SMALL)
    set_log(patch, root / "events")
    return root


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """A project whose run was left alone, with its exit status and what it printed."""
    return sweep_process.undisturbed(make, run, tmp_path_factory)


run = partial(sweep_process.run, "losses", tuned_stages.HERE)
start = partial(sweep_process.start, "losses", tuned_stages.HERE)


def content(root: Path) -> dict[str, Any]:
    """What is written down of the sweep."""
    written: dict[str, Any] = json.loads((root / "runs" / "sweeps" / "losses@tiny" / "cells.json").read_text())
    return written


def chosen(root: Path) -> dict[str, Any]:
    cells = content(root)["tuning"]["cells"]
    return {name: cell["settings"][cell["chosen"]]["values"] for name, cell in cells.items()}


def test_a_run_tunes_and_reports(undisturbed: tuple[Path, int, str], monkeypatch: pytest.MonkeyPatch) -> None:
    project, status, output = undisturbed
    monkeypatch.chdir(project)
    set_log(monkeypatch, project / "events")
    assert status == 0, output
    assert chosen(project) == CHOSEN
    assert len(trained(project)) == trained(project).total() == TRIALS + REPORT
    assert "loss=dpo: loss.beta 1000 (" in output
    assert "Each cell was tuned over the same number of settings (3) on 6 validation prompts" in " ".join(
        output.split()
    )
    assert "best at the edge of loss.beta, the largest value that was tried: widen the range" in output
    again, second = run()
    assert again == 0, second
    assert trained(project).total() == TRIALS + REPORT, "the second run has nothing to do"
    assert not (project / "runs/sweeps/losses@tiny/earlier").exists(), "trials and report are of one sweep"


def test_a_failed_trial_holds_the_report(project: Path) -> None:
    status, output = run(FAKE_FAILS="dpo/1000/*/101")
    assert status == 1, output
    assert trained(project).total() == TRIALS - 1
    assert f"{TRIALS - 1} finished; then every cell is trained" in output
    status, output = run(FAKE_DIVERGES="dpo/1000/*/101")
    assert status == 0, output
    assert chosen(project)["loss=dpo"] == {"loss.beta": 500}, "diverged, so the next best, the first of two"
    assert len(trained(project)) == TRIALS - 1 + REPORT


def test_a_cell_without_a_choice_is_named(project: Path) -> None:
    status, output = run(FAKE_DIVERGES="ipo/*/10?")
    assert status == 1, output
    assert "failed: no setting of loss=ipo can be chosen: all 3 diverged; give it other values in 'tune'" in output
    assert "tuning: 12 of 12 trials; no setting of loss=ipo can be chosen" in " ".join(output.split())
    assert trained(project).total() == TRIALS // 2, "no cell of the report"


def test_a_killed_run_continues_with_the_same_choice(undisturbed: tuple[Path, int, str], project: Path) -> None:
    process = start(FAKE_STEP_S="0.1")
    while not (project / "events").exists() or trained(project).total() < 5:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    process = start(FAKE_STEP_S="0.1")
    while trained(project).total() < TRIALS + 2:  # until the report has begun
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    status, output = run()
    assert status == 0, output
    assert len(trained(project)) == TRIALS + REPORT
    assert content(project) == content(undisturbed[0]), "the same choice, keys and scores"
