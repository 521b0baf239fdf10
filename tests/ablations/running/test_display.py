"""What a run shows on a terminal and elsewhere."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from ablations.running.display import Board, Lines, describe
from ablations.store.owner import Owner

REPORT: dict[str, Any] = {"done": 30, "total": 60, "unit": "steps", "seconds": 15.0, "per_second": 2.0}


def test_times_and_reports_in_words() -> None:
    assert describe(REPORT) == "30/60 steps, 2 per second, 15 s left"
    assert describe(REPORT | {"per_second": 0.0}) == "30/60 steps"


def tell(display: Any) -> None:
    display.begin(5, 1)
    display.started("k", "train metric=product seed 0")
    display.progress({"k": None})
    display.progress({"k": REPORT})
    display.finished("k", "train metric=product seed 0")
    display.started("m", "evaluate base")
    display.failed("m", "evaluate base", "no prompts", Path("runs/log.txt"), 2)
    display.elsewhere("score (shared by 4 cells)", Owner.here(), Path("runs/claims/x"))
    display.finished("x", "score (shared by 4 cells)")
    display.started("n", "encode")
    display.stopped("n")
    for key, problem in (("p", None), ("q", "no room")):
        display.started(key, "precompute score for 2 stages")
        display.helped(key, "precompute score for 2 stages", problem)
    display.stopping(1)


SAID = (
    "train metric=product seed 0 in 0 s",
    "failed: evaluate base: no prompts; 2 stages that need it will not run",
    "log: runs/log.txt",
    "waiting: score (shared by 4 cells) is run by process ",
    "score (shared by 4 cells) by another launcher",
    "done precompute score for 2 stages in 0 s",
    "failed: precompute score for 2 stages: no room; the stages compute what is missing themselves",
    "stopping 1 running stage; the same command continues from here",
)


def test_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("ablations.running.display._PLAIN_EVERY_S", 0)
    tell(Lines(stream))
    output = stream.getvalue()
    assert "[3/5] start precompute score for 2 stages\n" in output, "it counts as no stage"
    assert output.startswith("5 stages, 1 done, 4 to run; importing the libraries first, which takes some seconds\n")
    assert output.splitlines()[1] == "[1/5] start train metric=product seed 0"
    assert "[1/5] train metric=product seed 0: 30/60 steps, 2 per second, 15 s left\n" in output
    assert "\x1b" not in output
    for text in SAID:
        assert text in " ".join(output.split())


def test_a_report_that_says_nothing_new_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("ablations.running.display._PLAIN_EVERY_S", 0)
    lines = Lines(stream)
    lines.begin(2, 0)
    lines.started("k", "generate base")
    for done in (0, 64, 64, 64, 128):
        lines.progress({"k": REPORT | {"done": done, "total": 312, "unit": "images"}})
    shown = [line.split(": ")[1].split(" ")[0] for line in stream.getvalue().splitlines()[2:]]
    assert shown == ["0/312", "64/312", "128/312"]


def test_one_blocked_stage_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    Lines(stream).failed("k", "train", "no room", None, 1)
    assert stream.getvalue() == "failed: train: no room; 1 stage that needs it will not run\n"


def test_board(capsys: pytest.CaptureFixture[str]) -> None:
    with Board() as board:
        tell(board)
    output = " ".join(capsys.readouterr().out.split())
    for text in SAID:
        assert text in output, text
