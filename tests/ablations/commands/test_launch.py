"""``ablate run`` with the project's own stages on a tiny world: stages, tables, pictures, W&B, and a second run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.ablations.kill import tree
from tests.ablations.tiny_project import ROOT, make_project


def ablate(root: Path, *arguments: str) -> tuple[str, float]:
    """Output and seconds of a command that must succeed."""
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "ablations.cli", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout, time.monotonic() - begin


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, float]:
    """A project folder whose sweep has run, followed by W&B offline; what the run printed, and its seconds."""
    root = make_project(tmp_path_factory.mktemp("launch") / "project")
    experiment = root / "experiments" / "tiny.yaml"
    text = experiment.read_text().replace("wandb: disabled", "wandb: offline").replace("steps: 30", "steps: 3")
    experiment.write_text(text)
    return root, *ablate(root, "run", "small")


def results(root: Path) -> dict[str, str]:
    """Every file of the store but logs."""
    return {name: digest for name, digest in tree(root / "runs").items() if not name.endswith(".log")}


@pytest.mark.slow
def test_a_run_leaves_tables_and_pictures(finished: tuple[Path, str, float]) -> None:
    root, output, _ = finished
    folder = root / "runs" / "sweeps" / "small@tiny"
    for text in ("Does it matter?", "metric=product", "metric=difference", "strategy=random", "base"):
        assert text in output
    assert re.search(r"^21 stages instead of \d+: \d+ % saved by sharing$", output, re.MULTILINE)
    assert (
        output.splitlines()[-1]
        == "results: runs/sweeps/small@tiny/ (report.html, table.md, effects.png, gallery.png, ...)"
    )
    assert {"cells.json", "report.html", "table.csv", "table.md", "effects.png", "gallery.png"} <= set(tree(folder))
    cells = json.loads((folder / "cells.json").read_text())
    assert [cell["role"] for cell in cells["cells"]] == ["grid", "grid", "grid", "control", "base"]
    assert ablate(root, "table", "small")[0].strip() in output


@pytest.mark.slow
def test_every_cell_and_the_report_are_runs_of_wandb(finished: tuple[Path, str, float]) -> None:
    folder = finished[0] / "runs" / "sweeps" / "small@tiny"
    written = list((folder / "wandb").glob("offline-run-*"))
    assert len(written) == 6, (folder / "wandb.log").read_text()
    assert sum(path.name.endswith("-report") for path in written) == 1
    assert (
        "W&B: 6 runs are written and not uploaded; 'ablate wandb push small' uploads them" in finished[1].splitlines()
    )


@pytest.mark.slow
def test_a_second_run_only_shows_the_table(finished: tuple[Path, str, float]) -> None:
    root, output, first = finished
    before = results(root)
    again, seconds = ablate(root, "run", "small")
    assert again.startswith("21 stages, 21 done, 0 to run\n")
    assert again.partition("\n")[2] in output
    assert results(root) == before
    assert seconds < first / 2


@pytest.mark.slow
def test_the_plan_of_a_finished_sweep(finished: tuple[Path, str, float]) -> None:
    numbers = json.loads(ablate(finished[0], "plan", "small", "--json")[0])
    assert numbers["states"] == {"done": numbers["unique"]}
    assert [numbers["stages"][stage]["unique"] for stage in ("data", "score", "encode")] == [1, 1, 1]
