"""A tuned sweep with the project's own stages on a world of random weights: the commands from plan to table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ablations.command import ablate
from tests.ablations.tiny_project import ROOT, make_project

pytestmark = pytest.mark.slow
SWEEP = """\
question: Which loss?
experiment: tiny
axes: {loss.name: [dpo, sft]}
baseline: {loss.name: dpo}
seeds: [0]
overrides: {training.steps: 2, generation.steps: 2, evaluation.splits: [evaluation]}
tune:
  budget: 2
  fields: {training.learning_rate: [1e-4, 1e-3]}
  judge: judge_emoji
  split: seen
  seeds: [100]
"""


def test_the_commands_of_a_tuned_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = make_project(tmp_path / "project")
    monkeypatch.chdir(root)
    (root / "sweeps" / "tuned.yaml").write_text(SWEEP)

    assert ablate("plan", "tuned") == 0
    printed = capfd.readouterr().out
    assert (
        "tuning: 4 trials (2 cells x 2 settings x 1 seed) by judge_emoji on 4 prompts of split seen; 0 finished"
        in printed
    )
    assert "after the tuning, priced with the first setting of each cell" in printed
    assert ablate("show", "tuned") == 0
    assert "tuning: 0 of 4 trials" in capfd.readouterr().out

    done = subprocess.run(
        [sys.executable, "-m", "ablations.cli", "run", "tuned"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    printed = " ".join(done.stdout.split())
    assert "Each cell was tuned over the same number of settings (2) on 4 validation prompts (split seen)" in printed
    content = json.loads((root / "runs/sweeps/tuned@tiny/cells.json").read_text())
    trained = [cell for cell in content["cells"] if cell["role"] != "base"]
    for cell in trained:
        tuned = content["tuning"]["cells"][cell["name"]]
        scores = [setting["score"] for setting in tuned["settings"]]
        assert scores[tuned["chosen"]] == max(scores)
        assert scores[0] != scores[1], "the settings make different models"
        values = tuned["settings"][tuned["chosen"]]["values"]
        assert cell["axes"]["training.learning_rate"] == values["training.learning_rate"]
        record = json.loads((root / "runs/artefacts/train" / cell["stages"]["train"] / "record.json").read_text())
        assert record["meaning"]["training.learning_rate"] == values["training.learning_rate"]
        assert cell["state"] == "finished"
    assert "How the settings were chosen" in (root / "runs/sweeps/tuned@tiny/report.html").read_text()

    assert ablate("status", "tuned", "--once") == 0
    assert "all finished; chosen:" in capfd.readouterr().out
    assert ablate("explain", "tuned") == 0
    assert "chosen by tuning: training.learning_rate" in capfd.readouterr().out
    assert ablate("explain", "tuned", "loss=sft/learning_rate=0.001") == 0
    printed = capfd.readouterr().out
    assert "setting 2 of 2 of loss=sft, with tuning seed 100: " in printed
    assert "evaluate" in printed
    assert ablate("plan", "tuned") == 0
    assert "everything is done" in capfd.readouterr().out
