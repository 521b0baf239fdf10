"""``ablate dryrun`` with the project's own stages on a tiny world."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ablations.tiny_project import ROOT, make_project


@pytest.mark.slow
def test_the_real_stages_are_rehearsed(tmp_path: Path) -> None:
    root = make_project(tmp_path / "project")
    done = subprocess.run(
        [sys.executable, "-m", "ablations.cli", "dryrun", "small"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = done.stdout[done.stdout.index("\nrehearsed") :].splitlines()
    assert [row.split()[0] for row in rows if " x " in row][1:] == [
        *("data", "score", "select", "encode", "train", "generate", "generate", "evaluate")
    ]
    assert "most memory: " in done.stdout
    assert not (root / "runs" / "artefacts").exists()
