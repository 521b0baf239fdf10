"""``ablate init``, and members of one's own: found, checked, and part of the keys."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ablations.grid.spec import read_sweep
from qsd.own_members import KINDS
from tests.ablations.command import ablate
from tests.ablations.conftest import EXPERIMENT, write_assets
from tests.conftest import ROOT

LOSS = (ROOT / "qsd" / "losses" / "ipo.py").read_text()
SWEEP = """\
question: q
experiment: tiny
axes: {loss.name: [dpo, mine]}
baseline: {loss.name: dpo}
seeds: [0]
"""
_PROBE = """
import sys
from pathlib import Path
from ablations.planning.plan import make_plan
from ablations.grid.spec import read_sweep
from qsd.stages import spec
from qsd.losses import REGISTRY
plan = make_plan(read_sweep(Path("sweeps/own.yaml")), spec)
print(REGISTRY.source("mine"), *(cell.stages["train"].key for cell in plan.cells if cell.role != "base"))
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert ablate("init", "work") == 0
    monkeypatch.chdir("work")
    return Path()


def probe() -> list[str]:
    """The digest of the own loss, and the keys of the trainings, in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-1500:]
    return done.stdout.split()


def test_a_workspace_has_all_folders_and_a_valid_sweep(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(path.name for path in Path("members").iterdir()) == sorted(KINDS)
    Path("experiments/mine.yaml").write_text(EXPERIMENT)
    assert read_sweep(Path("sweeps/first.yaml")).experiment == "mine"
    Path("README.md").write_text("mine")
    capsys.readouterr()
    assert ablate("init", ".") == 0
    assert "made" not in capsys.readouterr().out
    assert Path("README.md").read_text() == "mine"
    Path("file").touch()
    assert ablate("init", "file") == 2


@pytest.mark.slow
def test_an_own_loss_is_planned_and_its_source_is_part_of_the_key(workspace: Path) -> None:
    write_assets(Path.cwd())
    Path("experiments/tiny.yaml").write_text(EXPERIMENT)
    Path("sweeps/own.yaml").write_text(SWEEP)
    own = Path("members/losses/mine.py")
    own.write_text(LOSS)
    digest, dpo, mine = probe()
    own.write_text(LOSS + "\n# a comment\n")
    assert probe() == [digest, dpo, mine]
    own.write_text(LOSS + "\nCONSTANT = 1\n")
    edited = probe()
    assert edited[0] != digest
    assert edited[1] == dpo
    assert edited[2] != mine
    Path("members/losses/_helper.py").write_text("VALUE = 1\n")
    own.write_text(LOSS + "\nfrom qsd.losses._helper import VALUE\n")
    one = probe()
    Path("members/losses/_helper.py").write_text("VALUE = 2\n")
    assert probe()[2] != one[2], "what an own member imports from beside it counts"
    folder = Path("members/losses/_parts")
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "value.py").write_text("VALUE = 1\n")
    own.write_text(LOSS + "\nfrom ._parts.value import VALUE\n")
    one = probe()
    (folder / "value.py").write_text("VALUE = -1\n")
    assert probe()[2] != one[2], "and from a folder beside it"


@pytest.mark.slow
def test_a_name_of_the_package_is_refused(workspace: Path) -> None:
    Path("members/losses/dpo.py").write_text(LOSS)
    done = subprocess.run(
        [sys.executable, "-m", "ablations.cli", "plan", "first", "-s", "loss.name=dpo"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "members/losses/dpo.py: the loss 'dpo' is already there; give the file another name" in done.stderr
    assert done.stderr.count("\n") == 1
