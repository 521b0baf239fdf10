"""Logs: the last lines of a file, the stage that is meant, and following a stage that runs."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ablations.commands.common import planned
from ablations.files import write_json
from ablations.inspection.logs import follow, stage_to_read
from ablations.running.log_file import tail
from ablations.store.artefacts import Store
from qsd.errors import UserError
from tests.ablations.command import ablate
from tests.ablations.conftest import SMALL, Planner
from tests.ablations.faults import faulty
from tests.ablations.local_run import run_plan


def test_the_end_of_a_long_file(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    assert tail(path, 3) == []
    path.write_text("")
    assert tail(path, 3) == []
    path.write_text("x" * 100_000 + "\na\n 10%\r 90%\nlast\n\n")
    assert tail(path, 3) == ["a", " 90%", "last"]
    path.write_bytes(b"\xff\nok\n")
    assert tail(path, 9)[-1] == "ok"


@pytest.mark.slow
def test_the_stage_that_is_meant(plan_of: Planner, store: Store, fake_log: Path) -> None:
    plan = plan_of(faulty(610))
    good, bad = plan.cells[0], plan.cells[1]
    with pytest.raises(UserError, match="no stage of beta=100 seed 0 has an attempt in this store"):
        stage_to_read(good, store, None)
    run_plan(plan, store)
    assert stage_to_read(bad, store, None).stage == "train", "the one that failed"
    assert stage_to_read(good, store, None).stage == "evaluate", "the last one"
    assert stage_to_read(good, store, "select").stage == "select"
    with pytest.raises(UserError, match="beta=610 seed 0 has no stage 'trian'; it has score, select, encode, train"):
        stage_to_read(bad, store, "trian")
    with pytest.raises(UserError, match="generate of beta=610 seed 0 has no attempt in this store"):
        stage_to_read(bad, store, "generate")


def test_following_a_stage_through_its_attempts(
    plan_of: Planner, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablations.inspection.logs._POLL_S", 0.01)
    node = next(node for node in plan_of(SMALL).nodes.values() if node.stage == "train")
    claim = store.claims.take(node.key)
    assert claim is not None
    first, second = (store.attempts("train", node.key) / number for number in ("1", "2"))
    first.mkdir(parents=True)
    (first / "log.txt").write_text("one\n")
    read: list[str] = []

    def reader() -> None:
        read.extend(follow(store, node))

    thread = threading.Thread(target=reader)
    thread.start()
    with (first / "log.txt").open("a") as stream:
        stream.write("two\n")
    write_json(first / "exit.json", {"state": "interrupted", "reason": "x"})
    second.mkdir()
    (second / "log.txt").write_text("three\n")
    write_json(second / "exit.json", {"state": "done", "reason": None})
    claim.forget()
    thread.join(20)
    assert not thread.is_alive()
    assert "".join(read).startswith("one\ntwo\n")


def test_an_attempt_that_was_killed_before_it_had_a_log(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, store = planned("good", None, Path("runs"), None)
    node = next(iter(plan.cells[0].stages.values()))
    (store.attempts(node.stage, node.key) / "1").mkdir(parents=True)
    assert ablate("logs", "good", plan.cells[0].label) == 0
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.endswith("this attempt has not begun a log, or was killed before it could\n")
