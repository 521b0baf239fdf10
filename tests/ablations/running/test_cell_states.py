"""The state of each cell in ``cells.json``, the cost in ``run.json``, and the table when some cells have no result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ablations.commands import launch
from ablations.files import read_json, write_json
from ablations.planning.plan import Plan
from ablations.running import finalize
from ablations.running.finalize import cells_json, refresh_cells, write_cells
from ablations.slurm import finish_file, finish_job
from ablations.store.artefacts import Store
from ablations.store.launches import begin
from qsd.errors import UserError
from tests.ablations import fake_stages
from tests.ablations.conftest import SMALL, Planner
from tests.ablations.faults import FAULTS, faulty
from tests.ablations.local_run import PRELOAD

pytestmark = pytest.mark.slow

DIVERGES, FAILS = 608, 610
REASON = "training diverged: loss is nan at step 3; lower training.learning_rate"
ENDED = {
    ("beta=100", 0): ("finished", None),
    ("beta=608", 0): ("diverged", REASON),
    ("beta=610", 0): ("failed", "train failed: IndexError: list index out of range"),
    ("base", None): ("finished", None),
}


def states_in(content: Any) -> dict[tuple[str, int | None], tuple[str, str | None]]:
    return {(cell["name"], cell["seed"]): (cell["state"], cell["reason"]) for cell in content["cells"]}


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The states at each writing of tables; the cheap stages have no scores that real tables could be made of."""
    written: list[Any] = []

    def table_text(_store: Store, folder: Path) -> str:
        written.append(states_in(read_json(folder / "cells.json")))
        return "THE TABLE"

    monkeypatch.setattr(finalize, "table_text", table_text)
    return written


def launch_run(plan: Plan, store: Store, only: frozenset[str] | None = None) -> int:
    return launch.run(plan, store, 2, fake_stages.HERE, PRELOAD, only=only)


def attempts_at_training(store: Store) -> int:
    return len(list(store.root.glob("attempts/train/*/*")))


def test_after_a_failure_and_a_divergence_there_is_a_table(
    plan_of: Planner, store: Store, fake_log: Path, tables: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(faulty(DIVERGES, FAILS))
    assert launch_run(plan, store) == 1
    assert tables == [ENDED]
    output, error = capsys.readouterr()
    assert "THE TABLE\n" in output
    assert "failed: train beta=610 seed 0 (2 more stages wait for it)" in error
    assert "608" not in error


def test_failures_of_one_cause_are_one_group(
    plan_of: Planner, store: Store, fake_log: Path, tables: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(faulty(FAILS, seeds="[0, 1]"))
    assert launch_run(plan, store) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("failed: ")] == [
        "failed: 2 stages (4 more stages wait for them): IndexError: list index out of range"
    ]
    both = ["train beta=610 seed 0", "train beta=610 seed 1"]  # in the order in which they ended
    assert [sorted(line.strip().split("; ")) for line in lines if line.startswith("    train")] == [both]
    assert lines[-1] == "2 stages failed; the same command tries them again"


def test_a_divergence_alone_is_no_failure_and_the_next_run_makes_no_attempt(
    plan_of: Planner, store: Store, fake_log: Path, tables: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(faulty(DIVERGES))
    assert launch_run(plan, store) == 0
    assert attempts_at_training(store) == 2
    notice = "not tried again: train beta=608 seed 0 ('ablate retry a --cause non-finite' runs it again)"
    assert capsys.readouterr().out.count(notice) == 1
    assert launch_run(plan, store) == 0
    assert attempts_at_training(store) == 2
    assert capsys.readouterr().out.count(notice) == 1
    assert len(tables) == 2
    key = next(cell.stages["train"].key for cell in plan.cells if cell.name == "beta=608")
    assert launch_run(plan, store, only=frozenset({key})) == 0
    assert attempts_at_training(store) == 3


def test_a_run_of_some_stages_shows_the_table_too(
    plan_of: Planner, store: Store, fake_log: Path, tables: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(SMALL)
    keys = frozenset(node.key for cell in plan.cells if cell.name == "base" for node in cell.stages.values())
    assert launch_run(plan, store, only=keys) == 0
    assert [state for state, _ in tables[0].values()] == ["unfinished", "unfinished", "unfinished", "finished"]
    assert "'ablate run' continues with them" in capsys.readouterr().out


def test_where_nothing_is_evaluated_the_failure_is_what_is_said(
    plan_of: Planner, store: Store, fake_log: Path, tables: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(faulty(FAILS))
    keys = frozenset(cell.stages["train"].key for cell in plan.cells if cell.name == "beta=610")
    before = {node.key for node in plan.nodes.values() if node.stage in ("score", "select", "encode")}
    assert launch_run(plan, store, only=keys | before) == 1
    assert tables == []
    output, error = capsys.readouterr()
    assert "no table yet: no cell is evaluated" in output
    assert "failed: train beta=610 seed 0" in error
    with pytest.raises(UserError, match=r"a@tiny: no cell is evaluated yet \(2 unfinished, 1 failed\)"):
        write_cells(plan, store, None, least=1)


def test_a_table_that_can_not_be_made_does_not_hide_the_failures(
    plan_of: Planner, store: Store, fake_log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def table_text(*_: Any) -> str:
        raise UserError("cells differ in their prompts")

    monkeypatch.setattr(finalize, "table_text", table_text)
    assert launch_run(plan_of(faulty(FAILS)), store) == 1
    output, error = capsys.readouterr()
    assert "no table: cells differ in their prompts" in output
    assert "failed: train beta=610 seed 0" in error
    monkeypatch.setenv("FAKE_MENDED", "1")
    with pytest.raises(UserError, match="cells differ"):
        launch_run(plan_of(faulty(FAILS)), store)


def test_states_of_cells_that_run_wait_or_were_never_tried(plan_of: Planner, store: Store) -> None:
    """A running second try of a diverged training is neither a divergence nor a failure yet."""
    plan = plan_of(faulty(*list(FAULTS)[:3]))
    assert set(states_in(cells_json(plan, store, None)).values()) == {("unfinished", None)}
    _, retried, interrupted, failed, _ = plan.cells
    for cell, ending in (
        (retried, {"state": "failed", "reason": REASON}),
        (interrupted, {"state": "interrupted", "reason": "stopped by SIGTERM", "signal": "SIGTERM"}),
        (failed, {"state": "failed", "reason": "two\nlines", "error": {"type": "X", "diverged": False}}),
    ):
        write_json(store.attempts("train", cell.stages["train"].key) / "1" / "exit.json", ending)
    state_of = states_in(cells_json(plan, store, None))
    assert state_of[retried.name, 0] == ("diverged", REASON)
    assert state_of[interrupted.name, 0] == ("unfinished", None)
    assert state_of[failed.name, 0] == ("failed", "train failed: two")
    claim = store.claims.take(retried.stages["train"].key)
    assert claim is not None
    assert states_in(cells_json(plan, store, None))[retried.name, 0] == ("unfinished", None)
    claim.release()
    shared = retried.stages["encode"]
    write_json(store.attempts("encode", shared.key) / "1" / "exit.json", {"state": "failed", "reason": "disk"})
    state_of = states_in(cells_json(plan, store, None))
    assert state_of[retried.name, 0] == ("diverged", REASON)
    assert state_of[interrupted.name, 0] == ("failed", "encode failed: disk")


def test_the_last_job_of_a_launch_brings_states_up_to_date_and_writes_the_table(
    plan_of: Planner,
    store: Store,
    world: Path,
    fake_log: Path,
    tables: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = plan_of(faulty(DIVERGES, FAILS))
    folder = write_cells(plan, store, "c" * 40)
    arguments = {"name": "a", "experiment": None, "seeds": None, "table": fake_stages.HERE}
    started = begin(store, "a", "tiny", arguments, "p.yaml", "one", "")
    path = finish_file.write(started, plan, store, folder, later=0)
    finish_job.run(str(path))
    assert tables == []
    assert capsys.readouterr().out.splitlines()[-1] == "no table yet: no cell is evaluated"
    launch_run(plan, store)
    write_json(folder / "cells.json", cells_json(plan, Store(Path("empty"), fake_stages.key_of), "c" * 40))
    tables.clear()
    capsys.readouterr()
    finish_job.run(str(path))
    assert tables == [ENDED]
    assert capsys.readouterr().out == f"6 of {len(plan.nodes)} stages are not done\nTHE TABLE\n"
    assert read_json(folder / "cells.json")["git_commit"] == "c" * 40
    refresh_cells(store, world / "absent")
    assert not (world / "absent").exists()


def cost_of(store: Store, plan: Plan) -> Any:
    return read_json(write_cells(plan, store, "c" * 40) / "run.json")


def attempt(store: Store, stage: str, key: str, number: int, processes: int = 1, **ending: Any) -> None:
    folder = store.attempts(stage, key) / str(number)
    about = {
        "start": f"2026-01-02T03:0{number}:00+00:00",
        "git": {"commit": "a" * 40, "dirty": number > 1},
        "versions": {"torch": f"2.{number}"},
        "processes": processes,
    }
    write_json(folder / "attempt.json", about)
    write_json(folder / "exit.json", {"state": "done", **ending})


def test_the_cost_of_a_sweep_is_what_its_attempts_took(plan_of: Planner, store: Store) -> None:
    """One stage per cell but the shared ones; a training with two attempts, the second by three processes on GPUs."""
    plan = plan_of(SMALL)  # product, difference, random, base
    assert cost_of(store, plan)["saved_by_sharing"] is None
    for key, node in plan.nodes.items():
        attempt(store, node.stage, key, 1, seconds=10.0, end="2026-01-02T03:01:10+00:00", max_cuda_bytes=None)
    trained = plan.trained[0].stages["train"]
    attempt(store, "train", trained.key, 1, seconds=10.0, end="2026-01-02T03:01:10+00:00", max_cuda_bytes=5)
    ending = {"seconds": 20.0, "end": "2026-01-02T04:00:00+00:00", "max_cuda_bytes": 5}
    attempt(store, "train", trained.key, 2, processes=3, **ending)
    content = cost_of(store, plan)
    stages = len(plan.nodes)
    assert content["stage_seconds"] == 10 * stages + 60
    assert content["gpu_hours"] == pytest.approx((10 + 3 * 20) / 3600, abs=1e-6)
    alone = 10 * sum(plan.alone.values()) + 60 * plan.alone[trained.key]
    assert content["seconds_without_sharing"] == alone
    assert content["saved_by_sharing"] == pytest.approx(1 - (10 * stages + 60) / alone, abs=1e-6)
    assert 0 < content["saved_by_sharing"] < 1
    count = sum(node.stage == "train" for node in plan.nodes.values())
    train = {
        "stages": count,
        "done": 0,
        "attempts": count + 1,
        "seconds": 10 * count + 60,
        "gpu_seconds": 70,
        "bytes": 0,
    }
    assert content["stages"]["train"] == train
    assert (content["start"], content["end"]) == ("2026-01-02T03:01:00+00:00", "2026-01-02T04:00:00+00:00")
    assert content["git_commit"] == "c" * 40
    assert content["commits"] == ["a" * 40, f"{'a' * 40}-dirty"]
    assert content["versions"] == {"torch": ["2.1", "2.2"]}


def test_work_that_was_done_for_several_stages_counts_for_each_its_part(plan_of: Planner, store: Store) -> None:
    """Two stages of this sweep and two of another share 40 s."""
    plan = plan_of(SMALL)
    (first, second, *_) = (node for node in plan.nodes.values() if node.stage == "select")
    members = {key: {} for key in (first.key, second.key, "x", "y")}
    meaning = {"stage": "select", "members": members, "number": 0, "count": 1}
    job = {"version": 1, "inputs": {}, "values": {}, "meaning": meaning}
    write_json(store.root / "jobs" / "ahead" / "common.json", job)
    attempt(store, "ahead", "common", 1, seconds=40.0, max_cuda_bytes=None)
    content = cost_of(store, plan)
    assert content["stage_seconds"] == 20
    assert content["stages"]["select"]["seconds"] == 20
    assert content["stages"]["select"]["attempts"] == 0


def test_the_cost_follows_the_states_and_stays_the_same_while_nothing_runs(
    plan_of: Planner, store: Store, fake_log: Path, tables: list[Any]
) -> None:
    plan = plan_of(SMALL)
    assert launch_run(plan, store) == 0
    folder = store.sweep(plan.name)
    content = read_json(folder / "run.json")
    kinds = {node.stage for node in plan.nodes.values()}
    assert set(content["stages"]) == kinds
    assert all(kind["done"] == kind["stages"] for kind in content["stages"].values())
    assert all(kind["bytes"] > 0 for kind in content["stages"].values())
    before = (folder / "run.json").read_bytes()
    refresh_cells(store, folder)
    assert (folder / "run.json").read_bytes() == before
    for path in store.root.glob("attempts/*/*/*/exit.json"):
        path.unlink()
    refresh_cells(store, folder)
    assert read_json(folder / "run.json")["end"] is None
