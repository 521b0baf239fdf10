"""The last job of a launch ends with the command that uploads the runs of this launch, and not of another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ablations.running import finalize
from ablations.slurm import finish_job
from tests.ablations import tuned_stages


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ({"name": "losses", "experiment": None}, "ablate wandb push losses"),
        (
            {"name": "losses", "experiment": "other", "settings": {"training.steps": 60, "loss.beta": 1000}},
            "ablate wandb push losses --experiment other -s training.steps=60 -s loss.beta=1000",
        ),
    ],
)
def test_the_last_job_names_the_command_with_the_settings_of_the_launch(
    arguments: dict[str, Any],
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = {"root": str(tmp_path), "runs": "runs", "folder": "runs/sweeps/losses@tiny"}
    content = {**folders, "later": 0, "grows": False, "stages": {}, "wandb": {}}
    path = tmp_path / "finish.json"
    path.write_text(json.dumps(content | {"arguments": {**arguments, "seeds": [0], "table": tuned_stages.HERE}}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(finalize, "refresh_cells", lambda *_: None)
    monkeypatch.setattr(finalize, "any_evaluated", lambda *_: False)
    monkeypatch.setattr("ablations.tracking.project.project_sweep", lambda *_, **__: None)
    monkeypatch.setattr(finish_job, "push_line", lambda _runs, _folder, _wandb, command: command)
    finish_job.run(str(path))
    assert capsys.readouterr().out.splitlines()[-1] == command
