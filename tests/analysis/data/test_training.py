"""``curves.json``: the logs of trainings, thinned, without loss of the first and the last row."""

from __future__ import annotations

import itertools
import json

import pytest

from analysis.data.sweep import read_sweep
from analysis.data.training import MOST_POINTS, curves_json, thinned
from analysis.report import write
from tests.analysis.synthetic import (
    Cell,
    World,
    metrics_row,
    seal,
    stage_keys,
    usual_world,
    write_sweep,
    write_train,
)


def curves_of(runs, folder):
    return json.loads(curves_json(runs, read_sweep(folder)))


def test_every_cell_and_seed_has_the_curve_of_its_training(tmp_path):
    world = usual_world(prompts={"evaluation": 3}, pictures=False, steps=30)
    content = curves_of(tmp_path, write_sweep(tmp_path, world))
    listed = [(cell["cell"], cell["seed"]) for cell in content["cells"]]
    assert listed == [(cell.name, seed) for cell in world.cells if cell.role != "base" for seed in (0, 1, 2)]
    for entry in content["cells"]:
        train = content["curves"][entry["training"]]["train"]
        rows = [metrics_row(step, entry["seed"]) for step in range(1, 31)]
        assert train["step"] == [row["step"] for row in rows]
        assert train["loss"] == pytest.approx([row["loss"] for row in rows], rel=1e-5)
        assert set(train) == set(rows[0])
        assert content["curves"][entry["training"]]["validation"] == {}


@pytest.mark.parametrize("steps", [1, 2, 199, 200, 201, 399, 5000])
def test_a_long_training_keeps_two_hundred_rows_with_both_ends(steps):
    rows = [{"step": step} for step in range(steps)]
    kept = [row["step"] for row in thinned(rows)]
    assert len(kept) == min(steps, MOST_POINTS) == len(set(kept))
    assert (kept[0], kept[-1]) == (0, steps - 1)
    assert kept == sorted(kept)
    gaps = [after - before for before, after in itertools.pairwise(kept)]
    assert max(gaps, default=1) - min(gaps, default=1) <= 1


@pytest.mark.slow
def test_the_file_of_a_long_sweep_stays_small(tmp_path):
    """Four cells of 5,000 steps: 10 columns of 200 numbers with six digits each."""
    cells = [Cell(name, seeds=(0,)) for name in "abcd"]
    world = World(cells, "a", prompts={"evaluation": 3}, pictures=False, steps=5000)
    folder = write_sweep(tmp_path, world)
    write(tmp_path, folder)
    assert (folder / "curves.json").stat().st_size < 4 * 10 * 200 * 12


def test_rows_without_a_number_and_validations_are_kept(tmp_path):
    """What a loss does not use is null in its log, and a number that is not finite has no place in JSON."""
    world = World([Cell("a", seeds=(0,))], "a", prompts={"evaluation": 3}, pictures=False)
    folder = write_sweep(tmp_path, world)
    key = stage_keys(world.cells[0], 0)["train"]
    training = tmp_path / "artefacts" / "train" / key
    (training / "metrics.jsonl").write_text('{"step": 0, "loss": 0.1}\n{"step": 1, "loss": NaN, "logit_mean": null}\n')
    (training / "validation.jsonl").write_text('{"steps": 2, "pairs": 8, "loss": 0.123456789}\n')
    seal(training, "train", key)
    curve = curves_of(tmp_path, folder)["curves"][key]
    assert curve["train"] == {"step": [0, 1], "loss": [0.1, None], "logit_mean": [None, None]}
    assert curve["validation"] == {"step": [2], "loss": [0.123457]}


def test_a_diverged_training_shows_how_it_diverged(tmp_path):
    """It is never sealed: its log is among the partial ones, and a kill may have cut its last line short."""
    cells = [Cell("a", seeds=(0,)), Cell("b", seeds=(0,), diverged=(0,)), Cell("c", seeds=(0,), absent=(0,))]
    folder = write_sweep(tmp_path, World(cells, "a", prompts={"evaluation": 3}, pictures=False))
    diverged, unfinished = (stage_keys(cell, 0)["train"] for cell in cells[1:])
    for key in (diverged, unfinished):
        source = write_train(tmp_path, key, 5, 0)
        (source / "record.json").unlink()
        target = tmp_path / "partial" / "train" / key
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    with (tmp_path / "partial" / "train" / diverged / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 6, "lo')
    content = curves_of(tmp_path, folder)
    assert [(cell["cell"], cell["state"]) for cell in content["cells"]] == [("a", "finished"), ("b", "diverged")]
    assert content["curves"][diverged]["train"]["step"] == [1, 2, 3, 4, 5]


def test_a_sweep_without_a_training_has_no_curves(tmp_path):
    cells = [Cell("a", seeds=(0,), absent=(0,)), Cell("base model", role="base", seeds=(None,), reward_model=None)]
    folder = write_sweep(tmp_path, World(cells, "a", prompts={"evaluation": 3}, pictures=False))
    (folder / "curves.json").write_text("of another time")
    assert curves_json(tmp_path, read_sweep(folder)) is None
    write(tmp_path, folder)
    assert not (folder / "curves.json").exists()
