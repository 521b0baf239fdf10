"""The select stage: its files, which pairs enter, and what it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from qsd.errors import UserError
from qsd.quality.metrics import QualityMetric
from qsd.stages import select
from tests.qsd.tiny_world import config, context

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 60


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """data/ and score/ of 60 pairs; the last pair has no score."""
    rng = np.random.default_rng(0)
    pairs = {
        "pair_id": [f"{row * 37 % 61:016x}" for row in range(COUNT)],
        "caption": [f"caption {row % 7}" for row in range(COUNT)],
        "winner_uid": [f"w{row % 20}" for row in range(COUNT)],
        "loser_uid": [f"l{row}" for row in range(COUNT)],
        "annotator_id": [f"user {row % 5}" for row in range(COUNT)],
        "source_row": list(range(COUNT)),
    }
    scores = {
        "pair_id": pairs["pair_id"][:-1],
        "winner_score": pa.array(rng.uniform(0.2, 0.9, COUNT - 1).astype(np.float32)),
        "loser_score": pa.array(rng.uniform(0.1, 0.8, COUNT - 1).astype(np.float32)),
        **{name: pa.array([name] * (COUNT - 1)).dictionary_encode() for name in ("scorer", "revision", "unit")},
    }
    for name, file, columns in (("data", "pairs", pairs), ("score", "scores", scores)):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table(columns), tmp_path / name / f"{file}.parquet")
    return tmp_path


def run(world: Path, name: str = "out", **settings: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Selected rows and summary."""
    given = config(world, world, **settings)
    select.run(context(given, world / name, data=world / "data", score=world / "score"))
    rows = pq.read_table(world / name / "selected.parquet").to_pylist()
    return rows, json.loads((world / name / "summary.json").read_text())


def test_the_files_of_a_selection(world: Path) -> None:
    rows, summary = run(world, selection__fraction=20)
    scores = pq.read_table(world / "score" / "scores.parquet").to_pandas()
    quality = scores["winner_score"].astype(float) * (1 - scores["loser_score"].astype(float))
    expected = quality.sort_values(ascending=False)[:12]
    assert [row["pair_id"] for row in rows] == scores["pair_id"][expected.index].tolist()
    np.testing.assert_allclose([row["quality"] for row in rows], expected, rtol=1e-12)
    assert [row["rank"] for row in rows] == list(range(12))
    assert {row["weight"] for row in rows} == {1.0}
    schema = pq.read_schema(world / "out" / "selected.parquet")
    assert [str(field.type) for field in schema] == ["string", "double", "double", "int32"]
    assert json.loads((world / "out" / "problems.json").read_text()) == {}
    assert (summary["kept"], summary["of"], summary["annotators_of"]) == (12, 59, 5)
    assert summary["unique_winner_images"] <= 12
    assert summary["mean_winner_score"] == pytest.approx(scores["winner_score"][expected.index].mean(), rel=1e-6)


def shuffle(world: Path, name: str, file: str) -> None:
    path = world / name / f"{file}.parquet"
    table = pq.read_table(path)
    order = np.random.default_rng(1).permutation(table.num_rows)
    pq.write_table(table.take(order), path)


@pytest.mark.parametrize("strategy", ["top_k", "threshold", "random", "weighted_sampling"])
@pytest.mark.parametrize("normalization", ["raw", "min_max", "percentile_rank"])
def test_the_order_of_the_inputs_does_not_matter(world: Path, strategy: str, normalization: str) -> None:
    settings = {"selection__strategy": strategy, "selection__threshold": 0.3, "quality__normalization": normalization}
    before = run(world, "before", **settings)[0]
    shuffle(world, "data", "pairs")
    shuffle(world, "score", "scores")
    assert run(world, "after", **settings)[0] == before


def test_random_needs_no_scores_and_knows_no_quality(world: Path) -> None:
    given = config(world, world, selection__strategy="random", selection__fraction=50)
    select.run(context(given, world / "out", data=world / "data"))
    table = pq.read_table(world / "out" / "selected.parquet")
    assert table.num_rows == 30
    assert table["quality"].null_count == 30


def test_a_random_metric_is_a_function_of_the_seed(world: Path) -> None:
    first = run(world, "a", quality__metric="random", selection__fraction=20)[0]
    again = run(world, "b", quality__metric="random", selection__fraction=20)[0]
    other = run(world, "c", quality__metric="random", selection__fraction=20, seed=1)[0]
    assert first == again != other
    assert len(first) == 12


def test_raw_scores_outside_the_unit_interval_are_refused_by_the_product(world: Path) -> None:
    path = world / "score" / "scores.parquet"
    table = pq.read_table(path)
    scaled = pc.multiply(table["winner_score"], 20).cast(pa.float32())
    pq.write_table(table.set_column(1, "winner_score", scaled), path)
    with pytest.raises(
        UserError, match=r"quality.metric 'product' needs scores in \[0, 1\].*min_max or percentile_rank"
    ):
        run(world)
    assert len(run(world, "ranked", quality__normalization="percentile_rank", selection__fraction=50)[0]) == 30


def test_a_quality_that_is_no_number_is_listed_and_bounded(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(winner: Any, _loser: Any, _uniform: Any) -> Any:
        result = winner.copy()
        result[[3, 5]] = [np.nan, np.inf]
        return result

    from qsd.quality import pairs

    for module in (select, pairs):
        monkeypatch.setattr(module.METRICS, "get", lambda _name: QualityMetric(broken))
    run(world, data__max_rejected_fraction=0.05, selection__fraction=100)
    ids = pq.read_table(world / "score" / "scores.parquet")["pair_id"].to_pylist()
    problems = json.loads((world / "out" / "problems.json").read_text())
    assert problems == {"nan_quality": {"count": 2, "ids": [ids[3], ids[5]]}}
    with pytest.raises(UserError, match="2 of 59 refused"):
        run(world, "bounded", data__max_rejected_fraction=0.01)


def test_scores_of_another_data_set_are_refused(world: Path) -> None:
    path = world / "score" / "scores.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(0, "pair_id", pa.array(["stranger"] * table.num_rows)), path)
    with pytest.raises(UserError, match="score has pair stranger, which input data lacks"):
        run(world)


def test_a_folder_of_the_wrong_stage_is_named(world: Path) -> None:
    given = config(world, world)
    with pytest.raises(UserError, match=r"scores\.parquet: no such file"):
        select.run(context(given, world / "out", data=world / "data", score=world / "data"))
