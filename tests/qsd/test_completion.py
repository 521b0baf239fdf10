"""What a shell completes, and ``--version``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qsd import cli
from qsd.completion import experiments, fields, sweeps
from tests.ablations.command import ablate


def test_names_and_fields_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sweeps("") == experiments("") == []
    for folder in ("sweeps", "experiments"):
        Path(folder).mkdir()
        for name in ("loss", "lora", "demo"):
            (Path(folder) / f"{name}.yaml").touch()
    assert sweeps("lo") == experiments("lo") == ["lora", "loss"]
    assert fields("lora.ra") == ["lora.rank="]
    assert fields("loss.name=ip") == ["loss.name=ipo"]
    assert fields("data.labels=") == ["data.labels=human", "data.labels=simulated"]
    assert fields("lora.rank=") == fields("nothing=") == []


def test_both_commands_print_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate("--version") == 0
    ours = capsys.readouterr().out
    assert ours.startswith("qsd-ablations ")
    assert ours.count("\n") == 1
    monkeypatch.setattr(sys, "argv", ["qsd", "--version"])
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    assert not exit_info.value.code
    assert capsys.readouterr().out == ours
