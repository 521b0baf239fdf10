"""The table of cells: everything a sweep means, in three forms that say the same."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from ablations.planning.cells import about, fields, find_cell
from ablations.running.finalize import cells_json
from ablations.store.artefacts import Store
from tests.ablations.command import ablate
from tests.ablations.conftest import Planner

TEXT = """\
question: q
experiment: tiny
axes: {loss.name: [dpo, sft], loss.beta: [100, 200]}
when: {loss.beta: {loss.name: dpo}}
controls: [{selection.strategy: random, lora.targets: [to_q, to_v]}]
baseline: {loss.name: dpo, loss.beta: 100}
seeds: [0, 7]
"""


@pytest.fixture
def written(assets: Path) -> Path:
    (assets / "sweeps" / "c.yaml").write_text(TEXT)
    return assets


def test_csv_json_and_table_say_the_same(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate("cells", "c", "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert ablate("cells", "c", "--json") == 0
    entries = json.loads(capsys.readouterr().out)
    assert ablate("cells", "c") == 0
    table = capsys.readouterr().out.splitlines()
    assert [row["cell_id"] for row in rows] == [entry["cell_id"] for entry in entries]
    assert [row["cell_id"] for row in rows] == [line.split()[0] for line in table[1:]]
    assert table[0].split() == ["cell", "id", "role", "seed", "loss", "beta", "strategy", "targets"]
    assert [(row["role"], row["seed"], row["loss.name"], row["loss.beta"]) for row in rows] == [
        ("baseline", "0", "dpo", "100"),
        ("baseline", "7", "dpo", "100"),
        ("grid", "0", "dpo", "200"),
        ("grid", "7", "dpo", "200"),
        ("grid", "0", "sft", ""),
        ("grid", "7", "sft", ""),
        ("control", "0", "dpo", "100"),
        ("control", "7", "dpo", "100"),
        ("base", "", "", ""),
    ]
    assert rows[6]["lora.targets"] == "[to_q, to_v]"
    assert entries[6]["axes"]["lora.targets"] == ["to_q", "to_v"]
    assert table[-1].split()[1:] == ["base", "-", "-", "-", "-", "-"]


def test_merged_cells_are_said(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (written / "sweeps" / "c.yaml").write_text(TEXT.replace("[100, 200]", "[100, 200, 100]"))
    assert ablate("cells", "c") == 0
    assert "note: loss=dpo,beta=100: listed 2 times, runs once" in capsys.readouterr().out
    assert ablate("cells", "c", "--csv", "--json") == 2
    assert "--csv and --json cannot be used together" in capsys.readouterr().err


def test_one_description_for_all_readers(plan_of: Planner, store: Store) -> None:
    plan = plan_of(TEXT)
    for cell, entry in zip(plan.cells, cells_json(plan, store, None)["cells"], strict=True):
        assert about(cell).items() <= entry.items()
    assert fields(plan) == ["loss.name", "loss.beta", "selection.strategy", "lora.targets"]


def test_measures_on_embeddings_are_among_the_scorers_of_a_cell(plan_of: Planner, store: Store) -> None:
    """The base model has no distance to itself; without an embedder there are the scorers alone."""
    plain = cells_json(plan_of(TEXT), store, None)["cells"]
    settings = "overrides: {evaluation.embedder: clip_emoji_b, generation.images_per_prompt: 2}\n"
    embedded = cells_json(plan_of(TEXT + settings), store, None)["cells"]
    for before, after in zip(plain, embedded, strict=True):
        measures = ["diversity"] if after["role"] == "base" else ["diversity", "distance_to_base"]
        assert after["scorers"] == [*before["scorers"], *measures]
        assert "diversity" not in before["scorers"]


def test_a_cell_is_found_by_name_label_or_id(plan_of: Planner) -> None:
    plan = plan_of(TEXT)
    assert find_cell(plan, None).label == "loss=dpo,beta=100 seed 0"
    for cell in plan.cells:
        assert find_cell(plan, cell.cell_id) is cell
        assert find_cell(plan, cell.label) is cell
        assert find_cell(plan, cell.name).name == cell.name
