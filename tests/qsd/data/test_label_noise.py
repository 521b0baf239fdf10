"""Label noise: which pairs are flipped, what a flip changes, and what it must leave alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qsd.config.check import problem, schema_fields
from qsd.config.load import override
from qsd.data import label_noise
from qsd.rewards.ensemble import votes
from qsd.stages.judges import conflicts
from qsd.stages.select import run as select
from qsd.stages.spec import stage_inputs, stage_meaning
from tests.qsd.tiny_world import config, context

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 400
IDS = [f"{row * 7919:016x}" for row in range(COUNT)]


def pairs_table() -> pa.Table:
    rng = np.random.default_rng(1)
    return pa.table(
        {
            "pair_id": IDS,
            "caption": [f"caption {row % 9}" for row in range(COUNT)],
            "winner_uid": [f"w{row}" for row in range(COUNT)],
            "loser_uid": [f"l{row}" for row in range(COUNT)],
            "annotator_id": [f"user {row % 5}" for row in range(COUNT)],
            "winner_score": rng.uniform(0.4, 0.9, COUNT),
            "loser_score": rng.uniform(0.1, 0.4, COUNT),
        }
    )


def test_sets_are_nested_and_of_the_asked_size() -> None:
    before = np.zeros(COUNT, dtype=bool)
    for fraction in (0, 10, 20, 30, 100):
        now = label_noise.flipped(IDS, fraction)
        assert not (before & ~now).any()
        assert abs(now.mean() - fraction / 100) < 3 * np.sqrt(0.25 / COUNT)
        before = now
    assert before.all()


def test_a_flip_depends_on_the_id_alone() -> None:
    whole = dict(zip(IDS, label_noise.flipped(IDS, 30), strict=True))
    some = IDS[50:10:-3]
    assert label_noise.flipped(some, 30).tolist() == [whole[name] for name in some]


def test_flipped_rows_change_places_and_the_others_stay() -> None:
    table = pairs_table()
    noisy = label_noise.inject_flips(table, table.select(["pair_id", "winner_score", "loser_score"]), 25)
    mask = np.array(noisy["flipped"])
    assert mask.any()
    assert not mask.all()
    for name in ("uid", "score"):
        old_winner, old_loser = np.array(table[f"winner_{name}"]), np.array(table[f"loser_{name}"])
        assert (np.array(noisy[f"winner_{name}"]) == np.where(mask, old_loser, old_winner)).all()
        assert (np.array(noisy[f"loser_{name}"]) == np.where(mask, old_winner, old_loser)).all()
    for name in ("pair_id", "caption", "annotator_id"):
        assert noisy[name] == table[name]
    gap = np.array(table["winner_score"]) - np.array(table["loser_score"])
    np.testing.assert_allclose(np.array(noisy["score_gap"]), np.where(mask, -gap, gap))


def test_a_judge_that_agreed_contradicts_a_flipped_label() -> None:
    agrees = np.arange(COUNT) % 3 > 0
    table = pairs_table().append_column("judge_agrees", pa.array(agrees))
    noisy = label_noise.inject_flips(table, table.select(["pair_id", "winner_score", "loser_score"]), 25)
    assert (np.array(noisy["contradicted"]) == (~agrees ^ np.array(noisy["flipped"]))).all()
    kept = label_noise.columns(noisy, np.array([4, 2]))
    assert kept["contradicted"].to_pylist() == [noisy["contradicted"][row].as_py() for row in (4, 2)]


def test_a_pair_without_score_has_no_gap() -> None:
    table = pairs_table()
    scores = table.select(["pair_id", "winner_score", "loser_score"]).slice(10)
    gaps = label_noise.inject_flips(table.drop_columns(["winner_score", "loser_score"]), scores, 10)["score_gap"]
    assert gaps.slice(0, 10).null_count == 10
    assert gaps.slice(10).null_count == 0


def test_with_relabelling_the_better_scored_image_wins() -> None:
    """Whatever was planted before; without a score, or with equal ones, the label stays as it was."""
    table = pairs_table().slice(0, 4).drop_columns(["winner_score", "loser_score"])
    scores = {"pair_id": IDS[:3], "winner_score": [0.1, 0.9, 0.5], "loser_score": [0.4, 0.2, 0.5]}
    labels = label_noise.inject_flips(table, pa.table(scores), 0, "scores")
    assert labels["flipped"].to_pylist() == [True, False, False, False]
    assert labels["winner_uid"].to_pylist() == ["l0", "w1", "w2", "w3"]
    assert labels["score_gap"].to_pylist() == [pytest.approx(0.3), pytest.approx(0.7), 0.0, None]
    noisy = label_noise.inject_flips(table, pa.table(scores), 100, "scores")
    assert noisy["flipped"].to_pylist() == [True, False, True, True]


def test_a_majority_of_scorers_relabels() -> None:
    """Of three scorers, two prefer the loser of the first pair: its share of votes is 1/3, so it changes sides."""
    winner = np.array([[0.1, 5.0, 0.3], [0.2, 7.0, 0.3], [0.9, 6.0, np.nan]], dtype=np.float32)
    loser = np.array([[0.3, 1.0, 0.3], [0.4, 7.0, 0.1], [0.1, 2.0, 0.0]], dtype=np.float32)
    shares = votes(winner, loser)
    assert shares[:2].tolist() == pytest.approx([1 / 3, 2.5 / 3])
    assert np.isnan(shares[2])
    scores = pa.table({"pair_id": IDS[:2], "winner_score": shares[:2], "loser_score": 1 - shares[:2]})
    assert label_noise.inject_flips(pairs_table().slice(0, 2), scores, 0, "scores")["flipped"].to_pylist() == [
        True,
        False,
    ]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    table = pairs_table()
    words = {name: pa.array([name] * COUNT).dictionary_encode() for name in ("scorer", "revision", "unit")}
    scores = table.select(["pair_id", "winner_score", "loser_score"])
    for name, array in words.items():
        scores = scores.append_column(name, array)
    for name, file, content in (
        ("data", "pairs", table.drop_columns(["winner_score", "loser_score"])),
        ("score", "scores", scores),
    ):
        (tmp_path / name).mkdir()
        pq.write_table(content, tmp_path / name / f"{file}.parquet")
    return tmp_path


def run(world: Path, name: str, **settings: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    given = config(world, world, **settings)
    select.run(context(given, world / name, data=world / "data", score=world / "score"))
    rows = pq.read_table(world / name / "selected.parquet").to_pylist()
    return rows, json.loads((world / name / "summary.json").read_text())


def test_q_is_of_the_flipped_label(world: Path) -> None:
    """Every flipped pair has a loser that scores higher, so the least differences are exactly the flipped pairs."""
    settings = {"selection__fraction": 100.0, "quality__metric": "difference", "data__flip_fraction": 30.0}
    rows, summary = run(world, "noisy", **settings)
    mask = label_noise.flipped(IDS, 30)
    assert {row["pair_id"] for row in rows if row["flipped"]} == {
        name for name, is_in in zip(IDS, mask, strict=True) if is_in
    }
    assert [row["flipped"] for row in rows] == [False] * int((~mask).sum()) + [True] * int(mask.sum())
    assert all(row["quality"] == pytest.approx(row["score_gap"]) for row in rows)
    assert summary["flipped"] == summary["flipped_of"] == int(mask.sum())


def test_a_random_selection_is_the_same_with_and_without_noise(world: Path) -> None:
    """Strategies that ignore Q keep the same pairs at every noise level; only their labels differ."""
    clean, _ = run(world, "clean", selection__strategy="random", selection__fraction=50.0)
    noisy, summary = run(
        world, "noisy", selection__strategy="random", selection__fraction=50.0, data__flip_fraction=20.0
    )
    assert [row["pair_id"] for row in clean] == [row["pair_id"] for row in noisy]
    assert "flipped" not in clean[0]
    assert summary["flipped"] == sum(row["flipped"] for row in noisy)
    assert 0 < summary["flipped"] < summary["flipped_of"]


def test_the_stage_relabels(world: Path) -> None:
    """All winners score higher in this world, so planted flips are undone, and no pair is lost."""
    rows, summary = run(
        world,
        "voted",
        selection__strategy="random",
        selection__fraction=100.0,
        data__flip_fraction=30.0,
        data__relabel="scores",
    )
    assert len(rows) == COUNT
    assert summary["flipped"] == 0
    assert all(row["score_gap"] > 0 for row in rows)


def values(**more: Any) -> dict[str, Any]:
    flat = {name: info.default for name, info in schema_fields().items()}
    return {**flat, "reward.model": "clip_emoji", **more}


def test_noise_levels_share_data_and_scores(tmp_path: Path) -> None:
    (tmp_path / "pairs").write_text("x")
    clean = values(**{"data.path": str(tmp_path / "pairs"), "selection.strategy": "random"})
    noisy = {**clean, "data.flip_fraction": 20.0}
    assert stage_meaning("data", clean) == stage_meaning("data", noisy)
    assert "data.flip_fraction" not in stage_meaning("select", clean)
    assert stage_meaning("select", noisy)["data.flip_fraction"] == 20.0
    assert stage_inputs("select", clean) == ("data",)
    assert stage_inputs("select", noisy) == ("data", "score")
    judged = {"evaluation.scorers": ["clip_emoji", "aesthetic_emoji", "clip_emoji_b"], "adapter": "trained"}
    assert conflicts({**noisy, **judged}) == {}  # the scorer measures the noise; it does not choose the pairs
    relabelled = {**clean, "data.relabel": "scores"}
    assert stage_meaning("data", clean) == stage_meaning("data", relabelled)
    assert stage_meaning("select", relabelled)["data.relabel"] == "scores"
    assert stage_inputs("select", relabelled) == ("data", "score")
    labelled = ["labelled the training pairs"]
    shared = ["shares a backbone with clip_emoji, which labelled the training pairs"]
    assert conflicts({**relabelled, **judged}) == {"clip_emoji": labelled, "aesthetic_emoji": shared}
    members = ["clip_emoji", "aesthetic_emoji"]
    voted = {**relabelled, "reward.model": "ensemble", "reward.members": members}
    assert conflicts({**voted, **judged}) == dict.fromkeys(members, labelled)
    assert conflicts({**voted, **judged, "data.relabel": "none"}) == {}
    both = ["selected the training pairs", *labelled]
    assert conflicts({**voted, **judged, "selection.strategy": "top_k"}) == dict.fromkeys(members, both)


@pytest.mark.parametrize("value", [-1, 101, "half"])
def test_other_fractions_are_refused(value: Any) -> None:
    assert "data.flip_fraction must be" in str(problem(schema_fields()["data.flip_fraction"], value))
    with pytest.raises(Exception, match="flip_fraction"):
        override({}, {"data.flip_fraction": value})
