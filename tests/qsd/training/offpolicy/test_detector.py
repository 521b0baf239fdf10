"""Finding planted flips: the area under the curve, and what is written after a training on noisy labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsd.encoding.store import EncodedPairs
from qsd.files import read_table, write_table
from qsd.losses import PairErrors
from qsd.training.offpolicy.denoising_errors import model_errors, reference_errors
from qsd.training.offpolicy.detection import DETECTORS, Detection, auroc, interval
from qsd.training.offpolicy.detector import Opinions, detect, detection_stream
from tests.qsd.tiny_stages import TinyStages, pair_ids, trainer

if TYPE_CHECKING:
    from pathlib import Path

    from qsd.training.engine import Engine
    from qsd.training.offpolicy.method import PairsMethod

NOISE = {"data__flip_fraction": 30.0, "loss__name": "adaptive_dpo", "loss__beta": 2000.0}


@given(st.lists(st.tuples(st.integers(-3, 3) | st.just(np.nan), st.booleans()), max_size=12))
def test_the_area_counts_pairs_of_a_hit_and_a_miss(rows: list[tuple[float, bool]]) -> None:
    values = np.array([value for value, _ in rows], dtype=np.float64)
    flipped = np.array([is_in for _, is_in in rows], dtype=bool)
    hits = [value for value, is_in in rows if is_in and np.isfinite(value)]
    misses = [value for value, is_in in rows if not is_in and np.isfinite(value)]
    wins = [(hit > miss) + 0.5 * (hit == miss) for hit in hits for miss in misses]
    assert auroc(values, flipped) == (pytest.approx(np.mean(wins)) if wins else None)


@given(st.lists(st.tuples(st.integers(-3, 3) | st.just(np.nan), st.booleans()), max_size=12))
def test_the_interval_is_delongs(rows: list[tuple[float, bool]]) -> None:
    values = np.array([value for value, _ in rows], dtype=np.float64)
    flipped = np.array([is_in for _, is_in in rows], dtype=bool)
    hits = [value for value, is_in in rows if is_in and np.isfinite(value)]
    misses = [value for value, is_in in rows if not is_in and np.isfinite(value)]
    if min(len(hits), len(misses)) < 2:
        assert interval(values, flipped) is None
        return
    wins = np.array([[(hit > miss) + 0.5 * (hit == miss) for miss in misses] for hit in hits])
    variance = wins.mean(axis=1).var(ddof=1) / len(hits) + wins.mean(axis=0).var(ddof=1) / len(misses)
    ends = np.clip(wins.mean() + 1.959964 * np.sqrt(variance) * np.array([-1, 1]), 0, 1)
    assert interval(values, flipped) == pytest.approx(tuple(ends), abs=1e-9)


def test_the_interval_covers_the_true_area_nineteen_times_in_twenty() -> None:
    """Normal numbers a standard deviation apart: the area is Φ(1/√2) = 0.7602."""
    rng = np.random.default_rng(0)
    flipped = np.arange(300) < 60
    ends = [interval(rng.normal(size=300) + flipped, flipped) or (0, 0) for _ in range(1000)]
    assert 0.92 < np.mean([low < 0.7602 < high for low, high in ends]) < 0.97


def test_detectors_point_at_suspects() -> None:
    rows = [np.array([0.25, 0.5, np.nan]) for _ in range(7)]
    rows[2] = np.array([-1.0, 2.0, 0.0])  # the score gap
    numbers = Detection(["a", "b", "c"], np.array([True, False, False]), *rows).suspicions()
    assert numbers["minus_d"].tolist()[:2] == [-0.25, -0.5]
    assert numbers["margin"].tolist()[:2] == numbers["base_margin"].tolist()[:2] == [0.25, 0.5]
    assert numbers["minus_score_gap"].tolist() == [1.0, -2.0, 0.0]
    assert numbers["contradicts_scorer"].tolist() == [1.0, 0.0, 0.5]


def test_a_file_of_an_earlier_version_lacks_some_numbers(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"pair_id": ["a", "b"], "flipped": [True, False], "metric": [0.5, None], "d": [1.0, 2.0]}
    write_table(tmp_path / "detector.parquet", pa.table({**columns, "score_gap": [-1.0, 1.0]}))
    old = Detection.read(tmp_path)
    areas = old.areas()
    assert (areas["minus_d"], areas["minus_score_gap"], areas["contradicts_scorer"]) == (1.0, 1.0, 1.0)
    assert areas["confidence"] is areas["margin"] is areas["base_margin"] is areas["contradicts_judge"] is None
    both = Detection.pooled([old, old])
    assert both.pair_ids == ["a", "b", "a", "b"]
    assert both.flipped.tolist() == [True, False, True, False]
    assert both.d.tolist() == [1.0, 2.0, 1.0, 2.0]


@pytest.fixture
def noisy(world: TinyStages, tmp_path: Path) -> TinyStages:
    """The tiny world with every third label flipped; the scorer has seen through every flip but one."""
    names = pair_ids(world)
    flipped = [row % 3 == 0 for row in range(len(names))]
    gaps: list[float | None] = [-1.0 - row if is_in else 1.0 + row for row, is_in in enumerate(flipped)]
    gaps[3], gaps[4] = 5.5, None
    columns: dict[str, Any] = {
        "pair_id": pa.array(names, pa.string()),
        "quality": pa.array([0.0] * len(names)),
        "weight": pa.array([1.0] * len(names)),
        "rank": pa.array(range(len(names)), pa.int32()),
        "flipped": pa.array(flipped),
        "score_gap": pa.array(gaps),
        "contradicted": pa.array([is_in or row == 1 for row, is_in in enumerate(flipped)]),
    }
    (tmp_path / "noisy").mkdir()
    write_table(tmp_path / "noisy" / "selected.parquet", pa.table(columns))
    return world.with_inputs(select=tmp_path / "noisy")


def detected(made: Engine[PairsMethod], world: TinyStages, **settings: Any) -> Any:
    encoded = EncodedPairs(world.artefacts["encode"])
    stream = detection_stream(encoded, made.method.stream, made.method.config, made.method.denoiser.process)
    return detect(made.method.denoiser, made.method.averages, stream, made.method.config, Opinions({}, {}))


@pytest.mark.slow
def test_flipped_pairs_change_places_in_the_stream_and_keep_their_draws(world: TinyStages, noisy: TinyStages) -> None:
    clean, turned = trainer(world).method.stream, trainer(noisy, **NOISE).method.stream
    ours, theirs = (stream.batch(0, len(stream), trainer(world).method.device) for stream in (clean, turned))
    assert ours.pair_ids == theirs.pair_ids
    assert (ours.noise == theirs.noise).all()
    place = {name: row for row, name in enumerate(turned.pair_ids)}
    count = len(clean)
    for row, name in enumerate(ours.pair_ids):
        winner, loser = (row, row + count) if not turned.flipped[place[name]] else (row + count, row)
        assert (theirs.latents[row] == ours.latents[winner]).all()
        assert (theirs.latents[row + count] == ours.latents[loser]).all()


@pytest.mark.slow
def test_an_untrained_adapter_knows_nothing(noisy: TinyStages) -> None:
    judged = detected(trainer(noisy, **NOISE), noisy)
    assert judged.flipped.sum() == len(judged.pair_ids) / 3
    assert judged.d.tolist() == judged.metric.tolist() == [0.0] * len(judged.pair_ids)
    areas = judged.areas()
    assert areas.pop("margin") == areas.pop("base_margin") not in (None, 0.5), "the base model needs no training"
    unknown = dict.fromkeys(("minus_score_gap", "contradicts_scorer", "contradicts_judge"))
    assert areas == {"metric": 0.5, "confidence": 0.5, "minus_d": 0.5, **unknown}


@pytest.mark.slow
def test_d_is_that_of_the_trained_model_on_the_flipped_label(noisy: TinyStages) -> None:
    made = trainer(noisy, **NOISE)
    for step in range(4):
        made.step(step)
    before = {name: parameter.detach().clone() for name, parameter in made.method.parameters.items()}
    judged = detected(made, noisy)
    method = made.method
    stream = detection_stream(
        EncodedPairs(noisy.artefacts["encode"]), method.stream, method.config, method.denoiser.process
    )
    batch = stream.batch(0, len(stream), method.device)
    errors = PairErrors(
        *model_errors(method.denoiser, batch, "fp32"), *reference_errors(method.denoiser, batch, "fp32")
    )
    assert judged.pair_ids == batch.pair_ids
    np.testing.assert_allclose(judged.d, errors.logits.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(judged.margin, errors.margin.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(judged.base_margin - judged.margin, judged.d, atol=1e-6)
    assert (judged.confidence >= judged.metric).all()
    assert (judged.metric > 0).any()
    assert all((before[name] == parameter).all() for name, parameter in made.method.parameters.items())


def test_a_loss_without_averages_has_no_metric(noisy: TinyStages) -> None:
    judged = detected(trainer(noisy, data__flip_fraction=30.0), noisy)
    assert np.isnan(judged.metric).all()
    assert judged.areas()["metric"] is None


@pytest.mark.slow
def test_what_is_written(world: TinyStages, noisy: TinyStages, tmp_path: Path) -> None:
    made = trainer(noisy, **NOISE)
    made.step(0)
    judged = made.method.find_flips()
    assert judged is not None
    judged.write(tmp_path)
    rows = pq.read_table(tmp_path / "detector.parquet").to_pylist()
    chosen = {row["pair_id"]: row for row in read_table(noisy.artefacts["select"] / "selected.parquet").to_pylist()}
    assert {row["pair_id"] for row in rows} == set(chosen)
    for row in rows:
        assert row["flipped"] == chosen[row["pair_id"]]["flipped"]
        assert row["score_gap"] == chosen[row["pair_id"]]["score_gap"]
        assert row["contradicts_judge"] == chosen[row["pair_id"]]["contradicted"]
    summary = judged.summary()
    assert summary["pairs"] == 3 * summary["flipped"]
    assert list(summary["auroc"]) == list(summary["auroc_95"]) == list(DETECTORS)
    hits, misses = summary["flipped"], summary["pairs"] - summary["flipped"] - 1
    above = sum(row["score_gap"] is not None and row["score_gap"] > 5.5 for row in rows if not row["flipped"])
    assert summary["auroc"]["minus_score_gap"] == pytest.approx(((hits - 1) * misses + above) / (hits * misses))
    assert summary["auroc"]["contradicts_judge"] == pytest.approx(1 - 0.5 / (misses + 1)), "one clean pair of all"
    assert trainer(world).method.find_flips() is None
    assert trainer(world, loss__name="linear_dpo", loss__linear_decay=0.9).method.find_flips() is None
    without_flips = trainer(world, loss__name="adaptive_dpo").method.find_flips()
    assert without_flips is not None
    assert without_flips.summary()["flipped"] == 0
    assert set(without_flips.areas().values()) == {None}
    relabelled = trainer(noisy, **{**NOISE, "data__relabel": "scores"})
    assert relabelled.method.find_flips() is None


@pytest.mark.slow
def test_several_draws_are_means_in_units_of_their_bin(noisy: TinyStages) -> None:
    settings = {**NOISE, "training__detection_draws": 4, "training__micro_batch": 5}
    made = trainer(noisy, **settings)
    for step in range(4):
        made.step(step)
    method, draws = made.method, 4
    judged = detected(made, noisy)
    stream = detection_stream(
        EncodedPairs(noisy.artefacts["encode"]), method.stream, method.config, method.denoiser.process
    )
    count = len(stream)
    rows: list[tuple[str, int, float, float]] = []
    for draw in range(draws):
        batch = stream.batch(draw * count, (draw + 1) * count, method.device)
        times = batch.timesteps[:count]
        assert ((times >= 250 * draw) & (times < 250 * (draw + 1))).all(), "draw k is in the k-th quarter"
        assert sorted(batch.pair_ids) == sorted(stream.pair_ids)
        errors = PairErrors(
            *model_errors(method.denoiser, batch, "fp32"), *reference_errors(method.denoiser, batch, "fp32")
        )
        base = (errors.ref_winner - errors.ref_loser).tolist()  # type: ignore[operator]
        rows += zip(batch.pair_ids, (times // 125).tolist(), errors.logits.tolist(), base, strict=True)
    for column, judged_column in ((2, judged.d), (3, judged.base_margin)):
        squares: dict[int, list[float]] = {}
        for row in rows:
            squares.setdefault(row[1], []).append(float(row[column]) ** 2)
        expected = [
            np.mean([float(row[column]) / np.sqrt(np.mean(squares[row[1]])) for row in rows if row[0] == name])
            for name in judged.pair_ids
        ]
        np.testing.assert_allclose(judged_column, expected, rtol=0, atol=0.03)
    assert ((judged.metric >= 0) & (judged.metric <= 1)).all()
    assert (judged.metric > 0).any()


@pytest.mark.slow
@pytest.mark.parametrize("draws", [1, 2])
@pytest.mark.parametrize("normalizer", ["step", "timestep", "micro_batch", "none"])
def test_every_normalizer_can_be_judged(noisy: TinyStages, normalizer: str, draws: int) -> None:
    settings = {**NOISE, "loss__adaptive_normalizer": normalizer, "training__detection_draws": draws}
    judged = detected(trainer(noisy, **settings), noisy)
    assert judged.metric.tolist() == [0.0] * len(judged.pair_ids)
    assert judged.confidence.tolist() == [0.5] * len(judged.pair_ids)
