"""Progress where there is no terminal: a line when there is something new."""

from __future__ import annotations

import pytest

from qsd.progress import ShownProgress


def test_a_count_is_printed_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("qsd.progress._SECONDS_BETWEEN_LINES", 0.0)
    with ShownProgress("generate") as report:
        for done in (0, 64, 64, 128, 128, 128):
            report(done, 128, "images")
    lines = [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == [f"generate: {done} of 128 images" for done in (0, 64, 128)]
