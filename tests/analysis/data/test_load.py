"""Loading and pairing: origin of every row, missing replicates told, unpaired prompts refused by name."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from analysis.data.load import load
from analysis.data.pairing import panels
from analysis.data.sweep import read_sweep
from analysis.statistics.build_rows import build_rows
from qsd.errors import UserError
from tests.analysis.damage import rewrite, scores_of, spoil
from tests.analysis.synthetic import Cell, prompt_table, stage_keys, usual_world, write_sweep


@pytest.fixture
def world():
    return usual_world(prompts={"evaluation": 6, "seen": 3}, pictures=False)


def test_every_row_names_its_origin(tmp_path, world):
    results = load(tmp_path, write_sweep(tmp_path, world))
    assert len(results.scores) == 13 * 9 * 2 * 3
    assert results.missing == ()
    row = results.scores.query("cell == 'metric=difference' and seed == 1").iloc[0]
    assert row["evaluate_key"] == stage_keys(world.cells[1], 1)["evaluate"]
    assert json.loads(row["axes"]) == {"quality.metric": "difference"}
    assert (row["role"], row["revision"], row["unit"]) == ("grid", "clip_emoji-r1", "cosine")
    assert results.scores.query("role == 'base'")["seed"].isna().all()


def test_missing_replicates_are_told_not_averaged(tmp_path, world):
    world.cells[1].absent = (2,)
    results = load(tmp_path, write_sweep(tmp_path, world))
    assert [(replicate.name, replicate.seed) for replicate in results.missing] == [("metric=difference", 2)]
    assert panels(results)[0].cells["metric=difference"].seeds == (0, 1)


def test_an_artefact_with_a_short_file_is_not_finished(tmp_path, world):
    folder = write_sweep(tmp_path, world)
    damaged = scores_of(tmp_path, world.cells[0], 0) / "scores.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert [replicate.label for replicate in load(tmp_path, folder).missing] == ["'metric=product' seed 0"]


def test_panels_put_held_out_first_and_keep_splits_apart(tmp_path, world):
    all_panels = panels(load(tmp_path, write_sweep(tmp_path, world)))
    assert [panel.split for panel in all_panels] == ["evaluation"] * 3 + ["seen"] * 3
    assert [len(panel.prompts) for panel in all_panels] == [6] * 3 + [3] * 3
    assert all_panels[0].cells["metric=product"].values.shape == (3, 6, 2)


def test_order_of_rows_in_a_file_is_of_no_matter(tmp_path, world):
    folder = write_sweep(tmp_path, world)
    before = panels(load(tmp_path, folder))[0].cells["strategy=random"].values
    rewrite(scores_of(tmp_path, world.cells[3], 1), lambda table: table.sort_by([("score", "descending")]))
    assert (panels(load(tmp_path, folder))[0].cells["strategy=random"].values == before).all()


def test_unpaired_prompts_are_named(tmp_path, world):
    folder = write_sweep(tmp_path, world)
    gone = prompt_table(world)[2][0]
    rewrite(scores_of(tmp_path, world.cells[2], 1), lambda table: table.filter(pc.field("prompt_id") != gone))
    with pytest.raises(UserError, match=f"'metric=winner_only' seed 1.*not paired.*{gone}"):
        panels(load(tmp_path, folder))


def test_unequal_images_per_prompt_are_named(tmp_path):
    world = usual_world(cells=[Cell("a")], baseline="a", prompts={"evaluation": 4}, pictures=False)
    folder = write_sweep(tmp_path, world)
    short = prompt_table(world)[1][0]
    keep = (pc.field("prompt_id") != short) | (pc.field("image_index") == 0)
    for seed in (0, 1, 2):
        rewrite(scores_of(tmp_path, world.cells[0], seed), lambda table: table.filter(keep))
    with pytest.raises(UserError, match=f"same image indices for every prompt: {short}"):
        panels(load(tmp_path, folder))


def test_a_score_that_is_there_twice_is_refused(tmp_path, world):
    folder = write_sweep(tmp_path, world)
    for cell in world.cells:
        for seed in cell.seeds:
            rewrite(scores_of(tmp_path, cell, seed), lambda table: pa.concat_tables([table, table.slice(0, 1)]))
    with pytest.raises(UserError, match=f"more than one score.*{prompt_table(world)[0][0]}"):
        panels(load(tmp_path, folder))


@pytest.mark.slow
@pytest.mark.parametrize("listed", [False, True], ids=["in the file", "listed beside it"])
def test_an_image_without_a_number_is_left_out_of_every_cell(tmp_path, world, listed):
    world = usual_world(prompts={"evaluation": 60}, pictures=False)
    folder = write_sweep(tmp_path, world)
    whole = {
        (panel.scorer, cell): cube for panel in panels(load(tmp_path, folder)) for cell, cube in panel.cells.items()
    }
    spoil(scores_of(tmp_path, world.cells[1], 0), [0], listed)
    results = load(tmp_path, folder)
    first = prompt_table(world)[0][0]
    for panel in panels(results):
        hit = panel.scorer == "clip_emoji"  # the first rows of the file are of its first scorer
        assert panel.images_left_out == (1 if hit else 0)
        assert panel.left_out == ({"'metric=difference' seed 0": 1} if hit else {})
        for cell, cube in panel.cells.items():
            at = panel.prompts.index(first)
            assert np.isnan(cube.values[:, at, 0]).all() == hit
            cube.values[:, at, 0] = whole[panel.scorer, cell].values[:, at, 0]
            assert np.array_equal(cube.values, whole[panel.scorer, cell].values)
    rows = build_rows(results)
    assert {row.images_left_out for row in rows if row.scorer == "clip_emoji"} == {1}
    assert all(row.versus_baseline is None or np.isfinite(row.versus_baseline.difference) for row in rows)


@pytest.mark.parametrize("listed", [False, True], ids=["in the file", "listed beside it"])
def test_a_prompt_without_any_image_left_is_no_prompt_of_the_panel(tmp_path, world, listed):
    world = usual_world(prompts={"evaluation": 120}, pictures=False)
    folder = write_sweep(tmp_path, world)
    spoil(scores_of(tmp_path, world.cells[1], 0), [0, 1], listed)
    for panel in panels(load(tmp_path, folder)):
        assert len(panel.prompts) == (119 if panel.scorer == "clip_emoji" else 120)
        assert all(cube.values.shape[1] == len(panel.prompts) for cube in panel.cells.values())


def test_a_replicate_with_too_few_numbers_fails_with_the_reason(tmp_path, world):
    """12 of 120 scores: the replicate fails under this scorer, and nothing is left out of the others."""
    world = usual_world(prompts={"evaluation": 60}, pictures=False)
    folder = write_sweep(tmp_path, world)
    spoil(scores_of(tmp_path, world.cells[1], 0), list(range(12)), listed=False)
    rows = {(row.cell, row.scorer): row for row in build_rows(load(tmp_path, folder))}
    row = rows["metric=difference", "clip_emoji"]
    assert row.failed_seeds == (("0", "12 of 120 scores of clip_emoji are not finite"),)
    assert (row.seeds, row.images_left_out) == ((1, 2), 0)
    assert row.versus_baseline is not None
    assert row.versus_baseline.mark is None
    assert rows["metric=difference", "judge"].complete


@pytest.mark.slow
def test_no_more_than_a_tenth_of_the_images_is_lost_to_all(tmp_path, world):
    """Each of many replicates lacks another 2 %: those that lost most take no part, instead of all prompts going."""
    cells = [Cell(f"c{number}", seeds=(0,), reward_model=None) for number in range(40)]
    world = usual_world(prompts={"evaluation": 50}, pictures=False, images=1, scorers={"judge": ("logit", 1.0)})
    world.cells, world.baseline = cells, "c0"
    folder = write_sweep(tmp_path, world)
    for number, cell in enumerate(cells):
        spoil(scores_of(tmp_path, cell, 0), [number], listed=False)
    (panel,) = panels(load(tmp_path, folder))
    assert panel.images_left_out == 5
    assert len(panel.prompts) == 45
    assert len(panel.failed) == 35
    assert all("too few images are left" in why for why in panel.failed.values())


def test_the_bound_is_the_stages_own():
    from analysis.data.pairing import MOST_NOT_FINITE
    from qsd.stages.evaluate.run import MAX_NON_FINITE

    assert MOST_NOT_FINITE == MAX_NON_FINITE


def test_mixed_revisions_are_refused(tmp_path, world):
    folder = write_sweep(tmp_path, world)

    def renew(table):
        values = pa.array(["r2"] * table.num_rows)
        return table.set_column(table.column_names.index("revision"), "revision", values)

    rewrite(scores_of(tmp_path, world.cells[0], 0), renew)
    with pytest.raises(UserError, match=r"2 revisions.*'metric=product'"):
        panels(load(tmp_path, folder))


def test_a_missing_column_is_named(tmp_path, world):
    folder = write_sweep(tmp_path, world)
    rewrite(scores_of(tmp_path, world.cells[0], 0), lambda table: table.drop_columns(["unit"]))
    with pytest.raises(UserError, match="column 'unit' is missing"):
        load(tmp_path, folder)


def test_nothing_evaluated_says_what_to_do(tmp_path, world):
    for cell in world.cells:
        cell.absent = cell.seeds
    with pytest.raises(UserError, match="ablate run metric_formula"):
        load(tmp_path, write_sweep(tmp_path, world))


def test_cells_file_is_checked(tmp_path, world):
    with pytest.raises(UserError, match="no such file"):
        read_sweep(tmp_path)
    folder = write_sweep(tmp_path, world)
    path = folder / "cells.json"
    good = json.loads(path.read_text())
    path.write_text("{")
    with pytest.raises(UserError, match="not a list of cells"):
        read_sweep(folder)
    path.write_text(json.dumps(good | {"cells": [*good["cells"], good["cells"][0]]}))
    with pytest.raises(UserError, match="listed twice"):
        read_sweep(folder)
    path.write_text(json.dumps(good | {"baseline": "other"}))
    with pytest.raises(UserError, match="'other' is not among the cells"):
        read_sweep(folder)


def test_cells_are_shown_baseline_first_base_model_last(tmp_path, world):
    world.baseline = "metric=difference"
    names = read_sweep(write_sweep(tmp_path, world)).cell_names()
    expected = ["metric=difference", "metric=product", "metric=winner_only", "strategy=random", "base model"]
    assert names == expected
