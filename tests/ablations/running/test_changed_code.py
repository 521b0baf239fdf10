"""A result never stands under code that has changed: a sign flipped in a scorer, from the edit to the table."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ablations.tiny_project import EXPERIMENT, ROOT, SWEEP, make_project

PACKAGES = ("qsd", "ablations", "analysis", "experiments/__init__.py")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project with a copy of the packages beside it, whose sweep is done."""
    root = make_project(tmp_path_factory.mktemp("project"))
    for name in PACKAGES[:3]:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "experiments/tiny.yaml").write_text(EXPERIMENT.replace("steps: 30", "steps: 2"))
    (root / "sweeps/small.yaml").write_text(SWEEP.replace(", winner_only]", "]").replace("controls", "#"))
    done = ablate(root, "run", "small", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    return root


def ablate(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process that imports the project's own copy of the packages."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-m", "ablations.cli", *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def states(root: Path) -> dict[str, dict[str, int]]:
    planned = ablate(root, "plan", "small", "--json")
    assert planned.returncode == 0, planned.stderr
    return {stage: row["states"] for stage, row in json.loads(planned.stdout)["stages"].items()}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.slow
def test_a_flipped_sign_in_a_scorer_takes_the_old_table_away(project: Path, tmp_path: Path) -> None:
    root = shutil.copytree(project, tmp_path / "copy", symlinks=True)
    folder = root / "runs/sweeps/small@tiny"
    before = (folder / "table.csv").read_text()
    assert all(set(counts) == {"done"} for counts in states(root).values())

    edit(root / "qsd/rewards/clip.py", "return cosines * self.model.logit_scale.exp()", "return -cosines * 1")
    after = states(root)
    assert after["data"] == {"done": 1}
    assert "done" not in after["score"]
    assert "done" not in after["evaluate"]
    assert after["encode"] == {"done": 1}

    shown = ablate(root, "table", "small")
    assert shown.returncode == 2
    assert "no cell is evaluated yet" in shown.stderr
    assert "Traceback" not in shown.stderr
    why = ablate(root, "explain", "small").stdout
    assert "reward.revision: wanted" in why

    again = ablate(root, "run", "small", "--jobs", "1")
    assert again.returncode == 0, again.stderr
    assert (folder / "table.csv").read_text() != before
    (kept,) = (folder / "earlier").iterdir()
    assert (kept / "table.csv").read_text() == before
    assert str(kept.relative_to(root)) in again.stdout


@pytest.mark.slow
def test_a_comment_in_a_loss_changes_nothing_and_a_sign_trains_anew(project: Path, tmp_path: Path) -> None:
    root = shutil.copytree(project, tmp_path / "copy", symlinks=True)
    edit(root / "qsd/losses/dpo.py", "    return softplus(", "    # why\n    return softplus(")
    assert all(set(counts) == {"done"} for counts in states(root).values())
    edit(root / "qsd/losses/dpo.py", "return softplus(-half_beta", "return softplus(half_beta")
    after = states(root)
    assert {stage for stage, counts in after.items() if "done" not in counts} == {"train"}
    assert after["generate"] == {"done": 1, "new": 2}  # the base model's images stand
    why = ablate(root, "explain", "small").stdout
    assert "loss.source: wanted" in why
    assert "the code of this member has changed" in why
