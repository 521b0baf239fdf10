"""``ablate wandb push --dry-run`` sends nothing, whatever the experiment says of W&B."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from ablations.commands import wandb
from ablations.tracking import project, upload


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_dry_run_lists_the_runs_and_sends_none(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"tracking.wandb": mode, "tracking.project": "paper", "tracking.entity": "team"}
    plan, store = SimpleNamespace(cells=[SimpleNamespace(values=values)]), SimpleNamespace(root=tmp_path)
    modes: list[str] = []  # that runs were written or sent in

    def send_news(runs: Path, folder: Path, mode: str, *where: str, live: bool = False) -> list[str]:
        modes.append(mode)
        return ["first"]

    monkeypatch.setattr(wandb, "looked_at", lambda *_: (plan, store))
    monkeypatch.setattr(wandb, "_refreshed", lambda *_: tmp_path)
    monkeypatch.setattr(project, "send_news", send_news)
    monkeypatch.setattr(project, "pending", lambda *_: ["first", "second"])
    monkeypatch.setattr(upload, "to_upload", lambda *_: ["first", "second"])
    monkeypatch.setattr(upload, "upload", lambda *_: pytest.fail("uploaded"))
    wandb.push("sweep", dry_run=True)
    assert "online" not in modes
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("to upload: ")] == ["to upload: first", "to upload: second"]
    assert lines[-1].startswith("2 runs to upload to ")
