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
from qsd.training.offpolicy.detection import DETECTORS, auroc
from qsd.training.offpolicy.detector import detect, detection_stream
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
    }
    (tmp_path / "noisy").mkdir()
    write_table(tmp_path / "noisy" / "selected.parquet", pa.table(columns))
    return world.with_inputs(select=tmp_path / "noisy")


def detected(made: Engine[PairsMethod], world: TinyStages, **settings: Any) -> Any:
    encoded = EncodedPairs(world.artefacts["encode"])
    stream = detection_stream(encoded, made.method.stream, made.method.config, made.method.denoiser.process)
    return detect(made.method.denoiser, made.method.averages, stream, made.method.config, {})


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
    assert judged.areas() == {"metric": 0.5, "minus_d": 0.5, "minus_score_gap": None}


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
    summary = judged.summary()
    assert summary["pairs"] == 3 * summary["flipped"]
    assert list(summary["auroc"]) == list(DETECTORS)
    hits, misses = summary["flipped"], summary["pairs"] - summary["flipped"] - 1
    above = sum(row["score_gap"] is not None and row["score_gap"] > 5.5 for row in rows if not row["flipped"])
    assert summary["auroc"]["minus_score_gap"] == pytest.approx(((hits - 1) * misses + above) / (hits * misses))
    assert trainer(world).method.find_flips() is None
    assert trainer(world, loss__name="linear_dpo", loss__linear_decay=0.9).method.find_flips() is None
    without_flips = trainer(world, loss__name="adaptive_dpo").method.find_flips()
    assert without_flips is not None
    assert without_flips.summary()["flipped"] == 0
    assert set(without_flips.areas().values()) == {None}
    relabelled = trainer(noisy, **{**NOISE, "data__relabel": "scores"})
    assert relabelled.method.find_flips() is None
