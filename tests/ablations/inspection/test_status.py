"""Status at scale and on a terminal."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from ablations.files import write_json
from ablations.grid.spec import read_sweep
from ablations.inspection import watch
from ablations.inspection.status import status, status_lines
from ablations.planning.plan import Plan, make_plan
from ablations.store.artefacts import Store
from ablations.store.launchers import announced
from ablations.store.owner import Owner
from tests.ablations import fake_stages
from tests.ablations.conftest import SMALL, Planner

BIG = """
question: q
experiment: tiny
axes:
  loss.beta: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
  lora.rank: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
  selection.fraction: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
baseline: {loss.beta: 1, lora.rank: 1, selection.fraction: 1}
seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
"""


def fill(plan: Plan, store: Store) -> None:
    """A third of the cells done, a third failed, some at work on another machine."""
    for number, cell in enumerate(plan.cells):
        for stage, node in cell.stages.items():
            if number % 3 == 0 or stage not in ("train", "generate", "evaluate"):
                store.artefact(stage, node.key).mkdir(parents=True, exist_ok=True)
        train = cell.stages.get("train")
        if train is None or number % 3 == 0:
            continue
        folder = store.attempts("train", train.key) / "1"
        folder.mkdir(parents=True)
        if number % 3 == 1:
            (folder / "exit.json").write_text(json.dumps({"state": "failed", "reason": "x"}))
        elif number % 30 == 2:
            report = {"done": 1, "total": 2, "unit": "steps", "seconds": 1.0, "per_second": 1.0}
            (folder / "progress.json").write_text(json.dumps(report))
            claim = store.claims.folder / train.key
            claim.mkdir(parents=True)
            (claim / "1").write_text(json.dumps({"owner": Owner.here().fields() | {"host": "node7"}}))


@pytest.mark.slow
def test_ten_thousand_cells_in_two_seconds(plan_of: Planner, store: Store, yardstick: float) -> None:
    """Three yardsticks (300,000 hashes each) were two seconds on the machine where the bound was set.

    Half as much again is allowed: beside other processes the many objects of a plan suffer more than hashes do.
    """
    fill(plan_of(BIG, "big"), store)
    begin = time.process_time()
    plan = make_plan(read_sweep(Path("sweeps/big.yaml")), fake_stages)
    overview = status(plan, store)
    text = json.dumps(overview)
    seconds = time.process_time() - begin
    assert len(overview["cells"]) == 10_001
    assert overview["states"]["failed"] == 3333
    assert overview["states"]["running"] == 334
    assert text
    assert seconds < 4.5 * yardstick, f"10,000 cells took {seconds:.2f} s of processor time"


def screen(height: int = 12) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=70, height=height)


def output(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_watching_ends_when_nothing_is_alive(plan_of: Planner, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to wait for."""
    plan = plan_of(SMALL)
    console = screen()
    monkeypatch.setattr("time.sleep", lambda _seconds: pytest.fail("it waits"))
    assert watch.watch(plan, store, console)["states"] == {"new": len(plan.nodes)}


def test_watching_waits_for_a_launch_that_warms_up(
    plan_of: Planner, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher imports libraries for half a minute before the first stage runs."""
    plan = plan_of(SMALL)
    launcher = announced(store, plan.nodes, plan.name)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            launcher.__exit__(None, None, None)

    monkeypatch.setattr("ablations.inspection.watch.time.sleep", sleep)
    launcher.__enter__()
    console = screen()
    assert watch.watch(plan, store, console)["states"] == {"new": len(plan.nodes)}
    assert len(waits) == 4
    assert "a launcher is at work" in output(console)
    other = plan_of(SMALL + "overrides: {training.steps: 7}\n")
    with announced(store, plan.nodes.keys() - other.nodes.keys(), plan.name):
        assert not status(other, store)["launcher"], "another sweep's"


def test_watching_follows_and_fits_the_screen(plan_of: Planner, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(BIG.replace("seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]", "seeds: [0]"), "big")
    node = plan.cells[500].stages["train"]
    claim = store.claims.take(node.key)
    assert claim is not None
    for done in (1, 2):
        write_json(
            store.attempts("train", node.key) / "1" / "progress.json",
            {"done": done, "total": 2, "unit": "steps", "seconds": 1.0, "per_second": 1.0},
        )
    console = screen()
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            claim.release()

    monkeypatch.setattr("ablations.inspection.watch.time.sleep", sleep)
    last = watch.watch(plan, store, console)
    assert "running" not in last["states"]
    assert len(waits) == 3
    shown = output(console)
    assert "train 2/2 steps" in shown, "what runs comes first, also cell 500 of 1,000"
    pages = re.sub(r"\x1b\[[0-9?;]*[A-Za-z]", "", shown).split("big@tiny")[1:]
    assert len(pages) >= 4
    assert all(page.count("\n") < 12 for page in pages)
    assert all(len(line) <= 70 for page in pages for line in page.splitlines())


def test_a_claim_that_cannot_be_read_names_no_process(plan_of: Planner, store: Store) -> None:
    """It was shown as process -1."""
    plan = plan_of(SMALL)
    key = plan.cells[0].stages["train"].key
    write_json(store.claims.folder / key / "1", {"owner": "?"})
    shown = status(plan, store)
    entries = [entry for entry in shown["running"] if entry["key"] == key]
    assert [(entry["host"], entry["pid"]) for entry in entries] == [(None, None)]
    assert "-1" not in "\n".join(status_lines(shown))
