"""``ablate table --verify``: tables that fit their results, and each way in which they may not."""

from __future__ import annotations

import json
import shutil

import pytest

from analysis.lock import up_to_date
from analysis.page.write import write_page
from analysis.report import write
from analysis.verify import verify
from qsd.errors import UserError
from tests.analysis.synthetic import seal, stage_keys, usual_world, write_evaluate, write_sweep

pytestmark = pytest.mark.slow


@pytest.fixture
def world():
    return usual_world(prompts={"evaluation": 6}, pictures=False)


@pytest.fixture
def folder(tmp_path, world):
    folder = write_sweep(tmp_path, world)
    write(tmp_path, folder)
    return folder


def test_tables_that_fit(tmp_path, folder):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    files, problems = verify(tmp_path, folder)
    assert problems == []
    assert files == len(before) - 2, "all but cells.json and the lock"
    assert {path: path.read_bytes() for path in folder.iterdir()} == before, "nothing is written"


def test_an_edited_number_is_found(tmp_path, folder):
    table = folder / "table.csv"
    table.write_text(table.read_text().replace("judge", "jugde", 1))
    (folder / "table.md").unlink()
    assert verify(tmp_path, folder)[1] == ["table.csv: changed since it was written", "table.md: missing"]


def test_an_edited_number_with_a_lock_that_fits_it_is_found(tmp_path, folder):
    """Who edits both the table and the lock is found by building it again."""
    import hashlib

    table, lock = folder / "table.csv", folder / "tables.lock.json"
    table.write_text(table.read_text().replace("judge", "jugde", 1))
    content = json.loads(lock.read_text())
    content["outputs"]["table.csv"] = hashlib.sha256(table.read_bytes()).hexdigest()
    lock.write_text(json.dumps(content))
    assert verify(tmp_path, folder)[1] == ["table.csv: these results give other content"]


def test_other_results_are_found(tmp_path, folder, world):
    """The evaluation of one cell was made again, with another effect."""
    world.cells[1].effect = 5.0
    key = stage_keys(world.cells[1], 0)["evaluate"]
    seal(write_evaluate(tmp_path, key, world, world.cells[1], 0), "evaluate", key)
    problems = verify(tmp_path, folder)[1]
    assert problems[0] == f"1 artefacts were added, removed or made again: evaluate/{key}"
    assert "table.csv: these results give other content" in problems


def test_a_flipped_byte_in_an_artefact_is_an_error(tmp_path, folder, world):
    key = stage_keys(world.cells[1], 0)["evaluate"]
    path = tmp_path / "artefacts" / "evaluate" / key / "scores.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="compute"):
        verify(tmp_path, folder)


def test_a_changed_file_of_any_stage_is_found_though_tables_were_written_after_it(tmp_path, folder, world):
    key = stage_keys(world.cells[1], 0)["train"]
    path = tmp_path / "artefacts" / "train" / key / "summary.json"
    path.write_text(path.read_text().replace('"steps": 30', '"steps": 90'))
    write(tmp_path, folder)
    (problem,) = verify(tmp_path, folder)[1]
    assert problem.startswith(f"train/{key}: its file summary.json is damaged: its content is not what was written;")


def test_scores_of_pairs_are_an_input_of_the_figures(tmp_path, world):
    """The figure of qualities shows them."""
    world.scored = True
    folder = write_sweep(tmp_path, world)
    write(tmp_path, folder)
    key = stage_keys(world.cells[0], 0)["score"]
    assert up_to_date(tmp_path, folder)
    shutil.rmtree(tmp_path / "artefacts" / "score" / key)
    assert not up_to_date(tmp_path, folder)
    assert verify(tmp_path, folder)[1][0] == f"1 artefacts were added, removed or made again: score/{key}"


def test_an_edited_page_is_found(tmp_path, folder):
    page = write_page(tmp_path, folder)
    files, problems = verify(tmp_path, folder)
    assert (problems, files) == ([], len([*folder.iterdir()]) - 2)
    page.write_text(page.read_text().replace("judge", "jugde", 1))
    assert verify(tmp_path, folder)[1] == ["report.html: these results give other content"]
    page.write_text("another page")
    assert verify(tmp_path, folder)[1] == ["report.html: shows other tables or another run"]


def test_tables_that_were_never_written(tmp_path, world):
    with pytest.raises(UserError, match="no readable lock of tables"):
        verify(tmp_path, write_sweep(tmp_path, world))
