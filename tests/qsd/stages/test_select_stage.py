"""The select stage: its files, which pairs enter, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from qsd.errors import UserError
from qsd.quality.metrics import QualityMetric
from qsd.selection.strata import strata
from qsd.stages.select import run as select
from tests.qsd.tiny_world import config, context

COUNT = 60
ROOT = Path(__file__).parents[3]


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


def test_votes_weigh_the_pairs_that_are_selected(world: Path) -> None:
    path = world / "data" / "pairs.parquet"
    plain, _ = run(world, "plain", selection__strategy="loss_weighting")
    pairs = pq.read_table(path)
    votes = [float(1 + row % 4) for row in range(COUNT)]
    pq.write_table(pairs.append_column("vote_weight", pa.array(votes)), path)
    weighed, _ = run(world, "weighed", selection__strategy="loss_weighting")
    of = dict(zip(pairs["pair_id"].to_pylist(), votes, strict=True))
    assert [row["pair_id"] for row in weighed] == [row["pair_id"] for row in plain]
    assert [row["weight"] for row in weighed] == [row["weight"] * of[row["pair_id"]] for row in plain]


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


def test_the_summary_tells_what_was_kept_beside_all(world: Path) -> None:
    rows, summary = run(world, selection__fraction=20)
    pairs = pq.read_table(world / "data" / "pairs.parquet").to_pylist()
    scores = pq.read_table(world / "score" / "scores.parquet").to_pylist()
    known = {pair["pair_id"]: {**pair, **score} for pair, score in zip(pairs, scores, strict=False)}
    kept, every = [known[row["pair_id"]] for row in rows], list(known.values())
    for suffix, some in (("", kept), ("_of", every)):
        images = {row["winner_uid"] for row in some} | {row["loser_uid"] for row in some}
        assert summary[f"unique_images{suffix}"] == len(images)
        assert summary[f"unique_winner_images{suffix}"] == len({row["winner_uid"] for row in some})
        assert summary[f"unique_captions{suffix}"] == len({row["caption"] for row in some})
        against = sum(row["loser_score"] > row["winner_score"] for row in some)
        assert summary[f"contradicted{suffix}"] == pytest.approx(against / len(some))
    quality = [row["quality"] for row in rows]
    assert summary["quality_percentiles"]["0"] == min(quality)
    assert summary["quality_percentiles"]["100"] == summary["quality_percentiles_of"]["100"] == max(quality)
    assert summary["quality_percentiles_of"]["0"] < min(quality)
    assert summary["effective_pairs"] == 12
    assert "styles" not in summary
    assert "draws" not in summary


def styled(world: Path, of: list[str]) -> None:
    """Give the pairs captions that end with these styles, in turn; an empty one names none."""
    path = world / "data" / "pairs.parquet"
    table = pq.read_table(path)
    captions = [f"thing {row}{f', {of[row % len(of)]} style' if of[row % len(of)] else ''}" for row in range(COUNT)]
    pq.write_table(table.set_column(1, "caption", pa.array(captions)), path)


def test_styles_are_counted_and_kept_in_proportion(world: Path) -> None:
    styled(world, ["noto", "noto", "line art", ""])
    rows, summary = run(world, selection__strategy="stratified_top_k", selection__fraction=100 * 12 / 59)
    assert len(rows) == 12
    of = {name: counts["of"] for name, counts in summary["styles"].items()}
    assert of == {"line art": 15, "no style": 14, "noto": 30}
    assert {name: counts["kept"] for name, counts in summary["styles"].items()} == {
        "line art": 3,
        "no style": 3,
        "noto": 6,
    }
    assert [row["quality"] for row in rows] == sorted((row["quality"] for row in rows), reverse=True)


def test_strata_without_styles_need_clusters(world: Path) -> None:
    with pytest.raises(
        UserError, match=r"no caption names a style .* set selection.prompt_clusters, for example to 16"
    ):
        run(world, selection__strategy="stratified_top_k")
    settings = {"selection__strategy": "stratified_top_k", "selection__fraction": 50.0}
    with pytest.raises(UserError, match=r"prompt_clusters is 8, but there are 7 distinct captions; lower it"):
        run(world, **settings, selection__prompt_clusters=8)
    rows, _ = run(world, **settings, selection__prompt_clusters=7)
    captions = dict(
        zip(
            *(pq.read_table(world / "data" / "pairs.parquet")[n].to_pylist() for n in ("pair_id", "caption")),
            strict=True,
        )
    )
    kept = Counter(captions[row["pair_id"]] for row in rows)
    assert all(abs(kept[f"caption {number}"] - 4.25) <= 1.25 for number in range(7))  # eight or nine pairs of each


@pytest.mark.parametrize("clusters", [None, 3])
def test_strata_do_not_depend_on_the_order_of_the_inputs(world: Path, clusters: int | None) -> None:
    styled(world, ["noto", "line art", "fluent", ""])
    settings = {"selection__strategy": "stratified_top_k", "selection__prompt_clusters": clusters}
    before = run(world, "before", **settings, selection__fraction=30.0)[0]
    shuffle(world, "data", "pairs")
    shuffle(world, "score", "scores")
    assert run(world, "after", **settings, selection__fraction=30.0)[0] == before


def test_clusters_gather_captions_with_common_words() -> None:
    """Three vocabularies of a few words each, in any order, are distinguished."""
    words = {0: "red heart balloon rose", 1: "tabby cat paw whiskers", 2: "steam train rails smoke"}
    rng = np.random.default_rng(0)
    captions = [" ".join(rng.permutation(words[row % 3].split())[:3]) + f" {row}" for row in range(60)]
    numbers = strata(pa.array(captions), 3)
    assert len({(row % 3, int(number)) for row, number in enumerate(numbers)}) == 3
    order = rng.permutation(60)
    np.testing.assert_array_equal(strata(pa.array([captions[row] for row in order]), 3), numbers[order])


def test_a_curriculum_says_when_its_pairs_enter(world: Path) -> None:
    settings = {"selection__strategy": "curriculum", "selection__fraction": 20.0, "selection__curriculum_start": 0.25}
    rows, _ = run(world, **settings, selection__curriculum_full=0.9)
    top = run(world, "top", selection__fraction=20.0)[0]
    assert [{**row, "opens": None} for row in rows] == [{**row, "opens": None} for row in top]
    np.testing.assert_allclose(
        [row["opens"] for row in rows], [0] * 3 + [0.1 * step for step in range(1, 10)], atol=1e-12
    )


def test_draws_with_replacement_are_told(world: Path) -> None:
    settings = {
        "selection__strategy": "weighted_sampling",
        "selection__replacement": True,
        "selection__fraction": 100.0,
    }
    rows, summary = run(world, **settings)
    assert summary["draws"] == sum(row["weight"] for row in rows) == 59
    assert summary["kept"] == len(rows) < 59
    assert summary["effective_pairs"] < summary["kept"]


@pytest.mark.slow
def test_many_pairs_take_little_time_and_memory(tmp_path: Path, yardstick: float) -> None:
    """A fifth of the million that ``make bench-select`` measures; bounds that only another order of growth exceeds."""
    spec = importlib.util.spec_from_file_location("bench_selection", ROOT / "scripts" / "bench" / "selection.py")
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    bench.make_world(tmp_path, 200_000)
    seconds, _, _, mebibytes = bench.measure(tmp_path, {"quality.normalization": "percentile_rank"})
    assert seconds < 9 * yardstick
    assert mebibytes < 500
