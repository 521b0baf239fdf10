"""The frames for notebooks hold what the tables show, from any folder."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import pytest

import analysis
from analysis.data.rows import FILE, read_rows
from analysis.report import write
from qsd.errors import UserError
from tests.analysis.synthetic import Cell, World, write_sweep
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with one sweep, and the rows of its written table."""
    runs = tmp_path_factory.mktemp("frames") / "runs"
    cells = [
        Cell("metric=product", axes={"quality.metric": "product"}),
        Cell("metric=ratio", effect=2.0, axes={"quality.metric": "ratio"}, absent=(2,)),
        Cell("base model", role="base", seeds=(None,)),
    ]
    folder = write_sweep(runs, World(cells, "metric=product", prompts={"evaluation": 12}, pictures=False))
    write(runs, folder)
    return runs, folder, read_rows(folder / FILE)


def test_comparisons_are_those_of_the_table(store) -> None:
    runs, folder, rows = store
    results = analysis.results(folder.name, runs=runs)
    frame = results.comparisons.set_index(["cell", "split", "scorer", "reference"])
    compared = 0
    for row in rows:
        for reference, versus in (("baseline", row.versus_baseline), ("base", row.versus_base)):
            if versus is None:
                continue
            line = frame.loc[(row.cell, row.split, row.scorer, reference)]
            compared += 1
            assert line["difference"] == versus.difference
            assert (line["low"], line["high"]) == dataclasses.astuple(versus.estimate.interval)
            assert line["marked"] == versus.marked
    assert compared == len(results.comparisons)


@pytest.mark.parametrize("evaluated", ["metric=product", "base model"])
def test_a_sweep_with_nothing_to_compare_yet_has_all_frames(tmp_path, evaluated) -> None:
    cells = [
        Cell("metric=product", axes={"quality.metric": "product"}, absent=(0, 1, 2)),
        Cell("base model", role="base", seeds=(None,), absent=(None,)),
    ]
    cells[[cell.name for cell in cells].index(evaluated)].absent = ()
    folder = write_sweep(tmp_path / "runs", World(cells, "metric=product", prompts={"evaluation": 12}, pictures=False))
    results = analysis.results(folder.name, runs=tmp_path / "runs")
    assert (len(results.cells), len(results.comparisons)) == (4, 0)
    assert "cells: 4 x" in repr(results)
    assert len(repr(results)) < 200, "a notebook shows the last line's value"
    assert {"cell", "reference", "difference", "marked", "quality.metric"} <= {*results.comparisons.columns}
    assert set(results.scores["cell"]) == {evaluated}


def test_scores_and_cells_are_tidy(store) -> None:
    runs, folder, rows = store
    results = analysis.results(folder.name.partition("@")[0], runs=runs)
    means = results.scores.groupby(["cell", "split", "scorer"], observed=True)["score"].mean()
    for row in rows:
        assert means[row.cell, row.split, row.scorer] == pytest.approx(row.mean)
    assert set(results.scores["quality.metric"].dropna()) == {"product", "ratio"}
    cells = results.cells.set_index(["cell", "seed"])
    assert cells.loc[("metric=ratio", 2), "state"] == "unfinished"
    assert len(cells) == 7
    assert results.sweep.baseline == "metric=product"


def test_curves_have_a_row_per_step_and_column(store) -> None:
    runs, folder, _ = store
    curves = analysis.results(folder.name, runs=runs).curves
    loss = curves[(curves["cell"] == "metric=product") & (curves["seed"] == 0) & (curves["column"] == "loss")]
    assert loss["step"].is_monotonic_increasing
    assert loss["value"].notna().all()
    assert len(loss) > 1


def test_it_works_from_a_folder_below_the_store(store, monkeypatch) -> None:
    runs, folder, _ = store
    below = runs.parent / "notebooks" / "mine"
    below.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(below)
    assert len(analysis.results(folder.name).cells) == 7


def test_a_wrong_name_is_answered_with_those_there_are(store) -> None:
    runs, folder, _ = store
    with pytest.raises(UserError, match=f"no sweep 'demmo'; there are {folder.name}"):
        analysis.results("demmo", runs=runs)
    with pytest.raises(UserError, match="no sweep 'demmo@emoji'"):
        analysis.results("demmo", "emoji", runs=runs)


def test_importing_the_package_loads_no_pandas() -> None:
    code = "import sys, analysis; assert not {'pandas', 'numpy', 'torch'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_page_on_notebooks_runs_as_it_stands(store, tmp_path, monkeypatch) -> None:
    runs, folder, _ = store
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(runs)
    text = (ROOT / "docs" / "notebooks.md").read_text()
    blocks = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    assert len(blocks) == 2
    names = ("cells", "scores", "comparisons", "curves")
    tell = f"\nimport json\nprint(json.dumps({{name: list(getattr(demo, name)) for name in {names}}}))\n"
    code = "\n".join(blocks).replace('"demo"', repr(folder.name)) + tell
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "differences.png").stat().st_size > 0
    columns = json.loads(done.stdout.splitlines()[-1])
    for name in names:
        row = next(line for line in text.splitlines() if line.startswith(f"| `demo.{name}`"))
        assert set(row.split("|")[3].split("`")[1::2]) <= set(columns[name]), name
