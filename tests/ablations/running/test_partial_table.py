"""The commands with the project's own stages on a tiny world, where one cell diverges and another one fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ablations.kill import tree
from tests.ablations.tiny_project import ROOT, make_project

pytestmark = pytest.mark.slow
FAILING = "controls: [{selection.strategy: threshold, selection.threshold: 1e9}]\n"
"""A control whose selection keeps no pair, which is an error."""
SWEEP = f"""\
question: Does the rate matter?
experiment: tiny
axes: {{training.learning_rate: [1e-3, 1e30]}}
{FAILING}baseline: {{training.learning_rate: 1e-3}}
seeds: [0]
"""
"""Its second cell diverges at once."""


def ablate(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ablations.cli", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def states(root: Path) -> list[str]:
    content = json.loads((folder_of(root) / "cells.json").read_text())
    return [cell["state"] for cell in content["cells"]]


def folder_of(root: Path) -> Path:
    return root / "runs" / "sweeps" / "rates@tiny"


def trainings(root: Path) -> int:
    return len(list(root.glob("runs/attempts/train/*/*")))


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A project whose sweep has run, and how that ended."""
    root = make_project(tmp_path_factory.mktemp("partial") / "project")
    experiment = root / "experiments" / "tiny.yaml"
    experiment.write_text(experiment.read_text().replace("steps: 30", "steps: 3"))
    (root / "sweeps" / "rates.yaml").write_text(SWEEP)
    return root, ablate(root, "run", "rates")


def test_a_run_ends_with_the_table_and_the_failure(ended: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    root, done = ended
    assert done.returncode == 1, done.stderr
    assert states(root) == ["finished", "diverged", "failed", "finished"]
    assert {"table.csv", "table.md", "effects.png"} <= set(tree(folder_of(root)))
    assert "Does the rate matter?" in done.stdout
    assert "1 stage failed; the same command tries them again" in done.stderr
    reasons = [cell["reason"] for cell in json.loads((folder_of(root) / "cells.json").read_text())["cells"]]
    assert reasons[0] is reasons[3] is None
    assert reasons[1].startswith("training diverged: loss is nan at step ")
    assert reasons[2].startswith("select failed: selection.threshold 1e+09 keeps no pair")


def test_show_says_what_is_there_and_what_is_missing(ended: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    root, _ = ended
    done = ablate(root, "show", "rates")
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    assert shown.startswith("rates on tiny Does the rate matter? By judge_emoji on evaluation")
    assert "But the table is partial: results of" in shown
    assert "a training diverged in" in shown
    assert "results: runs/sweeps/rates@tiny/ (report.html, table.md, effects.png, gallery.png, ...)" in done.stdout
    assert "failed: " in shown
    assert "'ablate run rates' runs what is missing" in shown
    elsewhere = ablate(root, "show", "rates", "--runs", "elsewhere")
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert "No cell is evaluated yet (4 unfinished), so there is no verdict and no table" in elsewhere.stdout
    assert "Does the rate matter?" in elsewhere.stdout
    assert not (root / "elsewhere").exists()


def test_a_changed_sweep_keeps_the_earlier_table_and_a_divergence_alone_is_no_failure(
    ended: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    root, _ = ended
    before, tried = tree(folder_of(root)), trainings(root)
    (root / "sweeps" / "rates.yaml").write_text(SWEEP.replace(FAILING, ""))
    done = ablate(root, "run", "rates")
    assert done.returncode == 0, done.stderr
    assert trainings(root) == tried
    assert "'ablate retry rates --cause non-finite' runs it again" in done.stdout
    assert states(root) == ["finished", "diverged", "finished"]
    (kept,) = (folder_of(root) / "earlier").iterdir()
    assert tree(kept) == before

    written = tree(folder_of(root))
    assert ablate(root, "table", "rates").returncode == 0
    assert tree(folder_of(root)) == written, "the same cells in the same states"

    assert "1 other failed or diverged" in ablate(root, "retry", "rates").stdout
    assert trainings(root) == tried
    done = ablate(root, "retry", "rates", "--cause", "non-finite")
    assert (done.returncode, trainings(root)) == (0, tried + 1), done.stderr


def test_a_table_in_the_middle_of_a_sweep(ended: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """The second seed was never run; the failed selection does not depend on the seed."""
    root, _ = ended
    (root / "sweeps" / "rates.yaml").write_text(SWEEP.replace("[0]", "[0, 1]"))
    done = ablate(root, "table", "rates")
    assert done.returncode == 0, done.stderr
    assert states(root) == ["finished", "unfinished", "diverged", "unfinished", "failed", "failed", "finished"]
    assert "Does the rate matter?" in done.stdout
    done = ablate(root, "table", "rates", "--runs", "elsewhere")
    assert done.returncode == 2
    assert "no cell is evaluated yet (7 unfinished); 'ablate run rates' evaluates them" in done.stderr
