"""The command on a cluster, with the project's own stages at tiny size: submit, lose everything, resume, tables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ablations.kill import tree
from tests.ablations.tiny_project import make_project
from tests.conftest import ROOT
from tests.slurm.conftest import PROFILE
from tests.slurm.one_node import OneNode
from tests.slurm.watch import command, queue, scancel_all, wait_for

pytestmark = pytest.mark.slow


def ablate(root: Path, *arguments: str) -> str:
    """What a command printed that must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "ablations.cli", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT), "WANDB_API_KEY": "not-to-be-seen"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A cell and the base model: every kind of stage, and two of each that the base model has too."""
    root = make_project(tmp_path / "project")
    sweep = root / "sweeps" / "small.yaml"
    sweep.write_text(sweep.read_text().replace(", difference, winner_only", "").replace("controls", "#"))
    clusters = root / "experiments" / "clusters"
    clusters.mkdir()
    (clusters / "here.yaml").write_text(PROFILE.read_text() + "environment: {MARK: seen}\nsetup: ['export MADE=1']\n")
    return root


def test_a_whole_sweep(slurm: OneNode, project: Path) -> None:
    said = ablate(project, "run", "small", "--cluster", "here")
    assert "\nsubmitted 9 stages in 9 arrays (runs/launches/" in said, said
    wait_for(lambda: (project / "runs" / "artefacts" / "data").exists(), "a first artefact")
    scancel_all()
    assert ablate(project, "resume", "small").startswith("submitted ")
    assert "stages were in the queue already" in ablate(project, "resume", "small")
    folder = project / "runs" / "sweeps" / "small@tiny"
    wait_for(lambda: (folder / "gallery.png").exists() and not command("squeue", "--noheader"), "the last job", 900)
    assert queue() == {}
    table = (folder / "table.md").read_text()
    assert "metric=product" in table
    assert "metric=product" in ablate(project, "run", "small", "--cluster", "here"), "all is done: the table"

    ablate(project, "run", "small", "--runs", "local")
    assert tree(project / "runs" / "artefacts") == tree(project / "local" / "artefacts")
    written = b"".join(path.read_bytes() for path in (project / "runs").rglob("*") if path.is_file())
    assert b"not-to-be-seen" not in written
    scripts = [path.read_text() for path in (project / "runs" / "submitit").rglob("*_submission.sh")]
    assert all("export MARK=seen" in script and "export MADE=1" in script for script in scripts)
