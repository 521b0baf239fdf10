"""The written files: content, marks, determinism, and when they are up to date."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest

from analysis.load import load
from analysis.lock import up_to_date
from analysis.report import write
from analysis.rows import build_rows
from analysis.table_csv import read_csv, to_csv
from analysis.tables import render_terminal
from qsd.errors import UserError
from tests.analysis.synthetic import Cell, World, stage_keys, usual_world, write_evaluate, write_sweep

FILES = ["table.csv", "table.md", "effects.png", "gallery.png", "tables.lock.json"]


@pytest.fixture
def world():
    return usual_world(prompts={"evaluation": 12, "seen": 4}, pixels=16)


def test_report_writes_all_and_the_same_bytes_again(tmp_path, world):
    folder = write_sweep(tmp_path, world)
    written = write(tmp_path, folder)
    assert [path.name for path in written] == FILES
    first = {path.name: path.read_bytes() for path in written}
    for path in written:
        path.unlink()
        path.with_name(f".{path.name}.tmp").write_bytes(b"left by a kill")
    assert {path.name: path.read_bytes() for path in write(tmp_path, folder)} == first
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "cells.json"])


def test_the_figure_is_the_same_bytes_in_another_process(tmp_path, world):
    folder = write_sweep(tmp_path, world)
    script = "import sys, pathlib; from analysis.report import write; write(*map(pathlib.Path, sys.argv[1:]))"
    found = set()
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script, str(tmp_path), str(folder)], check=True)
        found.add((folder / "effects.png").read_bytes())
    assert len(found) == 1


def test_csv_is_read_back_and_names_the_origin(tmp_path, world):
    world.cells[1].absent = (2,)
    folder = write_sweep(tmp_path, world)
    write(tmp_path, folder)
    rows = read_csv(folder / "table.csv")
    assert to_csv(rows) == (folder / "table.csv").read_text()
    assert len(rows) == 5 * 2 * 3
    lines = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    product = next(line for line in lines if line["cell"] == "metric=product" and line["scorer"] == "clip_emoji")
    assert product["selected_the_data"] == "true"
    assert product["data_digest"] == stage_keys(world.cells[0], 0)["data"]
    assert product["git_commit"].startswith("0123456789")
    assert len(product["cell_ids"].split()) == 3
    assert (product["prompts"], product["images_per_prompt"], product["seeds"]) == ("12", "2", "0 1 2")
    assert product["baseline_difference"] == ""
    random = next(line for line in lines if line["cell"] == "strategy=random" and line["scorer"] == "clip_emoji")
    assert random["selected_the_data"] == "false"
    short = next(line for line in lines if line["cell"] == "metric=difference")
    assert (short["seeds"], short["missing_seeds"], short["complete"]) == ("0 1", "2", "false")
    assert [part.split(":")[0] for part in short["baseline_by_seed"].split()] == ["0", "1"]


def test_differences_are_those_of_the_scores(tmp_path, world):
    """Mean of the cell minus mean of the reference, straight from the long table."""
    results = load(tmp_path, write_sweep(tmp_path, world))
    means = results.scores.groupby(["cell", "split", "scorer"], observed=True)["score"].mean()
    for row in build_rows(results):
        own = means[row.cell, row.split, row.scorer]
        assert row.mean == pytest.approx(own)
        if row.versus_base is not None:
            assert row.versus_base.difference == pytest.approx(own - means["base model", row.split, row.scorer])
        if row.versus_baseline is not None:
            expected = own - means["metric=product", row.split, row.scorer]
            assert row.versus_baseline.difference == pytest.approx(expected)


def test_markdown_tells_marks_missing_and_simulation(tmp_path, world):
    world.cells[1].absent = (2,)
    folder = write_sweep(tmp_path, world)
    write(tmp_path, folder)
    text = (folder / "table.md").read_text()
    assert text.index("held-out prompts") < text.index("## Split seen")
    assert "`metric=product` (baseline)†" in text
    assert "`metric=difference`†‡" in text
    assert "`strategy=random` |" in text
    assert "not evaluated yet: metric=difference seed 2" in text
    assert "0, 1; missing 2" in text
    assert "simulated annotators" in text

    cells = json.loads((folder / "cells.json").read_text())
    (folder / "cells.json").write_text(json.dumps(cells | {"labels": "human"}))
    write(tmp_path, folder)
    assert "simulated annotators" not in (folder / "table.md").read_text()


def test_terminal_table_fits_110_columns_and_needs_no_heavy_imports(tmp_path, world):
    folder = write_sweep(tmp_path, world)
    with pytest.raises(UserError, match=r"table\.csv: no such file"):
        render_terminal(folder)
    write(tmp_path, folder)
    text = render_terminal(folder)
    assert max(len(line) for line in text.splitlines()) <= 110
    assert "metric=winner_only" in text
    assert "judge (logit)" in text
    script = (
        "import sys, pathlib; from analysis.tables import render_terminal; from analysis.lock import up_to_date;"
        "render_terminal(pathlib.Path(sys.argv[1])); up_to_date(pathlib.Path('.'), pathlib.Path(sys.argv[1]));"
        "print([m for m in ('numpy', 'pandas', 'pyarrow', 'matplotlib', 'torch', 'ablations') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder)], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_analysis_never_imports_the_grid_or_torch(tmp_path, world):
    folder = write_sweep(tmp_path, world)
    script = (
        "import sys, pathlib; from analysis.report import write; write(*map(pathlib.Path, sys.argv[1:]));"
        "print([m for m in ('torch', 'ablations', 'wandb', 'scipy') if m in sys.modules])"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(folder)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "[]"


def test_up_to_date_follows_inputs_and_outputs(tmp_path, world):
    world.cells[1].absent = (2,)
    folder = write_sweep(tmp_path, world)
    assert not up_to_date(tmp_path, folder)
    write(tmp_path, folder)
    assert up_to_date(tmp_path, folder)

    (folder / "table.md").write_text("edited")
    assert not up_to_date(tmp_path, folder)
    write(tmp_path, folder)
    assert up_to_date(tmp_path, folder)

    (folder / "gallery.png").unlink()
    assert not up_to_date(tmp_path, folder)
    write(tmp_path, folder)

    write_evaluate(tmp_path, stage_keys(world.cells[1], 2)["evaluate"], world, world.cells[1], 2)
    assert not up_to_date(tmp_path, folder)
    write(tmp_path, folder)
    assert up_to_date(tmp_path, folder)

    cells = json.loads((folder / "cells.json").read_text())
    (folder / "cells.json").write_text(json.dumps(cells | {"git_commit": "f" * 40}))
    assert not up_to_date(tmp_path, folder)

    (folder / "tables.lock.json").write_text("[]")
    assert not up_to_date(tmp_path, folder)


def test_a_sweep_that_has_only_begun(tmp_path):
    """No base model yet, one cell of two: dashes, no crash, nothing made up."""
    cells = [
        Cell("a", seeds=(0,)),
        Cell("b", seeds=(0,), absent=(0,)),
        Cell("base model", role="base", seeds=(None,), absent=(None,)),
    ]
    folder = write_sweep(tmp_path, World(cells, "a", prompts={"held_out": 5}, pixels=16))
    write(tmp_path, folder)
    rows = {(row.cell, row.scorer): row for row in read_csv(folder / "table.csv")}
    assert rows["b", "judge"].mean is None
    assert rows["b", "judge"].missing_seeds == ("0",)
    assert rows["base model", "judge"].missing_seeds == ("base",)
    assert rows["a", "judge"].versus_base is None
    assert "not evaluated yet: b seed 0, base model" in render_terminal(folder).replace("\n", " ")
