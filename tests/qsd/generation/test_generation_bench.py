"""The bench of generation: its first way makes the files that the stage makes, and its parts are all there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qsd.config.load import build, load_flat, override
from qsd.files import read_table
from qsd.stages.generate.run import all_wanted
from scripts.bench import generation
from tests.conftest import ROOT
from tests.qsd import tiny_pipeline

if TYPE_CHECKING:
    from pathlib import Path

    from qsd.config.load import Flat

pytestmark = pytest.mark.slow


@pytest.fixture
def flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flat:
    """The emoji world with the tiny model."""
    monkeypatch.chdir(ROOT)
    model = str(tiny_pipeline.save(tmp_path / "model"))
    settings = {"model.path": model, "model.resolution": 32, "generation.steps": 2, "generation.batch_size": 2}
    return override(load_flat(ROOT / "experiments/emoji.yaml"), {**settings, "device": "cpu"})


def test_threads_write_what_one_thread_wrote(flat: Flat, tmp_path: Path) -> None:
    wanted = all_wanted(build(flat))[:5]
    files = []
    for name in (generation.BEFORE, "compressed in threads"):
        folder = tmp_path / name
        folder.mkdir()
        assert generation.opened(flat, name).draw(wanted, 2, folder) > 0
        files.append({path.name: path.read_bytes() for path in folder.glob("*.parquet")})
    assert files[0] == files[1]
    assert [read_table(path).num_rows for path in sorted((tmp_path / generation.BEFORE).glob("*"))] == [2, 2, 1]


def test_the_report_has_every_way_and_every_part(flat: Flat) -> None:
    lines = list(generation.report(flat, generation.USUAL, images=4, rounds=1))
    tables = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    ways = {row[0]: row for row in tables[2 : 2 + len(generation.USUAL)]}
    assert list(ways) == list(generation.USUAL)
    for name in (generation.BEFORE, "compressed in threads"):
        assert ways[name][3] == "0.00, 0", "the same images"
    assert ways["channels_last"][3].endswith(", 0") or ways["channels_last"][3].endswith(", 1")
    parts = tables[-len(generation.PARTS) - 1 :]
    assert [row[0] for row in parts] == [*generation.PARTS, "the rest"]
    assert sum(float(row[2].rstrip("%")) for row in parts) == pytest.approx(100, abs=0.5)
    assert all(float(row[1]) > 0 for row in parts[:-1])
