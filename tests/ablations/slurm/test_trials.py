"""The last job of a launch of trials: it submits the report once they are finished, with what they chose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ablations.running import finalize
from ablations.slurm import finish_file, finish_job
from ablations.slurm.resubmit import planned_again
from ablations.store.artefacts import Store
from ablations.store.launches import begin
from tests.ablations import tuned_stages
from tests.ablations.tuned import SMALL, diverge, finish, plan_now

ARGUMENTS = {"name": "losses", "experiment": None, "seeds": [0, 1], "table": tuned_stages.HERE}


@pytest.fixture
def tuned_store(world: Path) -> Store:
    return Store(Path("runs"), tuned_stages.key_of)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the last job does in the end: "submits" or "shows"."""
    made: list[str] = []

    def resubmit(*_: Any) -> str:
        made.append("submits")
        return "submitted"

    monkeypatch.setattr(finish_job, "resubmit", resubmit)
    monkeypatch.setattr(finish_job, "_show", lambda _: made.append("shows"))
    return made


def last_job(store: Store) -> str:
    """Launch what is needed now; the file of its last job."""
    plan = plan_now(store, SMALL)
    folder = finalize.write_cells(plan, store, "c" * 40)
    launch = begin(store, "losses", "tiny", ARGUMENTS, "p.yaml", "one", "")
    return str(finish_file.write(launch, plan, store, folder, later=0))


def test_the_report_is_submitted_when_all_trials_are_finished(
    tuned_store: Store, calls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    store = tuned_store
    trials = plan_now(store, SMALL).trials
    path = last_job(store)
    finish(store, trials[:-1])
    finish_job.run(path)
    assert calls == ["shows"], "a trial is missing, so there is nothing to submit"
    assert "11 finished; then every cell is trained" in capsys.readouterr().out

    finish(store, trials)
    finish_job.run(path)
    assert calls == ["shows", "submits"]
    assert "loss=ipo: loss.beta 2000 (" in capsys.readouterr().out
    written = json.loads((store.sweep("losses@tiny") / "cells.json").read_text())
    assert written["git_commit"] == "c" * 40
    again, _ = planned_again(store.root, ARGUMENTS)
    assert {cell.name: cell.values["loss.beta"] for cell in again.cells if cell.seed is not None} == {
        "loss=dpo": 1000,
        "loss=ipo": 2000,
    }
    finish(store, again.cells)
    finish_job.run(last_job(store))
    assert calls == ["shows", "submits", "shows"], "nothing is left to submit"


def test_nothing_is_submitted_if_a_cell_has_no_choice(
    tuned_store: Store, calls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    trials = plan_now(tuned_store, SMALL).trials
    path = last_job(tuned_store)
    finish(tuned_store, trials[:6])
    for trial in trials[6:]:
        diverge(tuned_store, trial)
    finish_job.run(path)
    assert calls == ["shows"]
    assert "no setting of loss=ipo can be chosen: all 3 diverged" in capsys.readouterr().out
