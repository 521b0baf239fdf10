"""How many pairs selections have in common: counts, labels, heat map."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from analysis.data.sweep import read_sweep
from analysis.figures.drawing import PNG
from analysis.figures.overlap import overlap_csv, overlap_figure, read_overlap
from analysis.report import write
from tests.analysis.synthetic import Cell, World, usual_world, write_sweep


@pytest.fixture
def world():
    return usual_world(prompts={"evaluation": 12, "seen": 4}, pixels=16)


def test_the_overlap_is_counted_by_pairs(tmp_path, world):
    """product keeps pairs 0-19, difference 5-44, winner_only 10-29; random has three selections, one per seed."""
    world.cells[1].kept = 40
    selections = read_overlap(tmp_path, read_sweep(write_sweep(tmp_path, world)))
    random = [f"strategy=random seed {seed}" for seed in range(3)]
    assert list(selections.labels) == ["metric=product", "metric=difference", "metric=winner_only", *random]
    assert selections.kept.tolist() == [20, 40, 20, 20, 20, 20]
    assert selections.both[:3, :3].tolist() == [[20, 15, 10], [15, 40, 20], [10, 20, 20]]
    assert (selections.both == selections.both.T).all()
    sets = [set(np.random.default_rng(seed).permutation(100)[:20]) for seed in (0, 1)]
    assert selections.both[3, 4] == len(sets[0] & sets[1])
    lines = list(csv.DictReader(io.StringIO(overlap_csv(selections))))
    assert len(lines) == 6 * 5
    assert lines[0] == {
        "first": "metric=product",
        "second": "metric=difference",
        "kept_first": "20",
        "kept_second": "40",
        "both": "15",
        "share_of_first": "0.75",
        "jaccard": "0.333333333",
    }


@pytest.mark.slow
def test_cells_that_share_a_selection_are_one_row(tmp_path):
    cells = [Cell("a", seeds=(0,)), Cell("b", seeds=(0,)), Cell("c", seeds=(0,))]
    folder = write_sweep(tmp_path, World(cells, "a", prompts={"evaluation": 3}, pictures=False))
    content = json.loads((folder / "cells.json").read_text())
    for cell in content["cells"][1:]:
        cell["stages"]["select"] = content["cells"][0]["stages"]["select"]
    (folder / "cells.json").write_text(json.dumps(content))
    assert read_overlap(tmp_path, read_sweep(folder)) is None
    write(tmp_path, folder)
    assert not (folder / "overlap.png").exists()


def test_selections_of_the_same_pairs_are_one_row(tmp_path):
    """All pairs, whatever is done to their labels, and for each seed again; a seed is named where it matters."""
    cells = [
        *(Cell(f"flips={share}", seeds=(0, 1), reward_model=None, kept=100) for share in (0, 10, 20)),
        Cell("half", seeds=(0, 1), reward_model=None, kept=50),
    ]
    world = World(cells, "flips=0", prompts={"evaluation": 3}, pictures=False)
    selections = read_overlap(tmp_path, read_sweep(write_sweep(tmp_path, world)))
    assert selections.labels == ("flips=0 and 2 more", "half seed 0", "half seed 1")
    assert selections.kept.tolist() == [100, 50, 50]
    assert selections.both[0].tolist() == [100, 50, 50]
    world.cells.pop()
    assert read_overlap(tmp_path, read_sweep(write_sweep(tmp_path, world))) is None


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 40])
def test_the_heat_map_is_drawn_for_few_and_many(tmp_path, count):
    cells = [Cell(f"selection.fraction={number},metric=difference", seeds=(0,)) for number in range(count)]
    world = World(cells, cells[0].name, prompts={"evaluation": 2}, pictures=False, pairs=300)
    selections = read_overlap(tmp_path, read_sweep(write_sweep(tmp_path, world)))
    assert len(selections.labels) == count
    assert Image.open(io.BytesIO(overlap_figure(selections).save(PNG))).format == "PNG"
