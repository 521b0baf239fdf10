"""The score stage: every distinct (image, caption) once, NaN bounded, the same bytes after SIGKILL."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from qsd.data.images import decode
from qsd.errors import UserError
from qsd.rewards import clip
from qsd.runtime import Interrupted
from qsd.stages.data import run as data
from qsd.stages.score import run as score
from tests.qsd.tiny_world import SIZE, config, context, good_rows, write_rewards, write_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pairs.parquet of 40 rows, rewards/, and data/, the result of the data stage."""
    folder = tmp_path_factory.mktemp("world")
    path = write_rows(folder / "pairs.parquet", good_rows(40))
    data.run(context(config(path, folder), folder / "data"))
    write_rewards(folder / "rewards")
    return folder


def run(world: Path, output: Path, **settings: Any) -> list[dict[str, Any]]:
    given = config(world / "pairs.parquet", world / "rewards", **settings)
    score.run(context(given, output, data=world / "data"))
    return pq.read_table(output / "scores.parquet").to_pylist()


class Counting:
    """A scorer that counts, and gives what it is told to for some captions."""

    name, revision, unit, resolution = "counting", "0", "points", 8

    def __init__(self, special: dict[str, float] | None = None) -> None:
        self.special = special or {}
        self.batches: list[int] = []

    def score(self, images: Sequence[torch.Tensor], captions: Sequence[str]) -> np.ndarray:
        self.batches.append(len(images))
        values = [self.special.get(c, float(i.mean())) for i, c in zip(images, captions, strict=True)]
        return np.array(values, dtype=np.float32)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every image file that is decoded from here on."""
    files: list[bytes] = []

    def watched(data: bytes) -> Image.Image:
        files.append(data)
        return decode(data)

    monkeypatch.setattr("qsd.scoring.prefetch.decode", watched)
    return files


@pytest.mark.slow
def test_scores_are_those_of_the_scorer(world: Path, tmp_path: Path) -> None:
    scorer = clip.open_scorer(world / "rewards" / "clip_emoji")
    scored = run(world, tmp_path, reward__batch_size=7)
    rows = good_rows(40)
    assert len(scored) == 40
    for line, row in zip(scored, rows, strict=True):
        winner, loser = ("jpg_0", "jpg_1") if row["label_0"] == 1 else ("jpg_1", "jpg_0")
        alone = scorer.score([decode(row[winner]), decode(row[loser])], [row["caption"]] * 2)
        np.testing.assert_allclose([line["winner_score"], line["loser_score"]], alone, atol=2e-6)
        assert (line["scorer"], line["unit"]) == ("clip_emoji", "cosine")
    schema = pq.read_schema(tmp_path / "scores.parquet")
    assert [str(schema.field(name).type) for name in ("winner_score", "scorer")] == [
        "float",
        "dictionary<values=string, indices=int32, ordered=0>",
    ]


def test_distinct_work_is_done_once(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[bytes]
) -> None:
    """Three pairs of the same two images: twice the same caption with opposite labels, once another caption."""
    rows = good_rows(10)
    rows[8] = dict(rows[0], label_0=1 - rows[0]["label_0"])
    rows[9] = dict(rows[0], caption="another")
    path = write_rows(tmp_path / "pairs.parquet", rows)
    data.run(context(config(path, tmp_path, data__votes="distinct"), tmp_path / "data"))
    scorer = Counting()
    monkeypatch.setattr("qsd.scoring.compute.open_reward", lambda *_: scorer)
    given = config(path, world / "rewards", reward__batch_size=3, data__votes="distinct")
    score.run(context(given, tmp_path / "out", data=tmp_path / "data"))
    scored = pq.read_table(tmp_path / "out" / "scores.parquet").to_pylist()
    assert sum(scorer.batches) == 2 * (8 + 1)
    assert scorer.batches == [3] * 6
    assert len(decoded) == 8
    assert (scored[8]["winner_score"], scored[8]["loser_score"]) == (
        scored[0]["loser_score"],
        scored[0]["winner_score"],
    )
    assert (scored[9]["winner_score"], scored[9]["loser_score"]) == (
        scored[0]["winner_score"],
        scored[0]["loser_score"],
    )


def test_scores_that_are_no_numbers_are_listed_and_bounded(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    special = {"picture 3, tiny style": float("nan"), "picture 11, tiny style": float("inf")}
    monkeypatch.setattr("qsd.scoring.compute.open_reward", lambda *_: Counting(special))
    scored = run(world, tmp_path / "enough", data__max_rejected_fraction=0.05)
    pairs = pq.read_table(world / "data" / "pairs.parquet").to_pylist()
    expected = [pairs[3]["pair_id"], pairs[11]["pair_id"]]
    problems = json.loads((tmp_path / "enough" / "problems.json").read_text())
    assert problems == {"nan_score": {"count": 2, "ids": expected}}
    assert [line["pair_id"] for line in scored] == [p["pair_id"] for p in pairs if p["pair_id"] not in expected]
    with pytest.raises(UserError, match=rf"clip_emoji: 2 of 40 refused .*nan_score 2 \({expected[0]}"):
        run(world, tmp_path / "little", data__max_rejected_fraction=0.04)


def test_the_table_tells_how_its_scores_came_about(world: Path, tmp_path: Path) -> None:
    members = ["clip_emoji", "aesthetic_emoji"]
    (about,) = {
        tuple(row[name] for name in ("scorer", "precision", "preprocessing", "versions"))
        for row in run(world, tmp_path, reward__model="ensemble", reward__members=members)
    }
    assert about[:2] == ("ensemble", "fp32")
    preprocessing = json.loads(about[2])
    assert {name: (one["size"], one["resize"]) for name, one in preprocessing.items()} == dict.fromkeys(
        members, (SIZE, "shortest")
    )
    versions = json.loads(about[3])
    assert versions["torch"] == torch.__version__
    assert {"numpy", "open_clip_torch", "pillow", "tokenizers", "transformers"} < set(versions)


def test_a_judge_does_not_score_pairs(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'judge_emoji' is an independent judge"):
        run(world, tmp_path, reward__model="judge_emoji")


def test_missing_weights_are_named(world: Path, tmp_path: Path) -> None:
    given = config(world / "pairs.parquet", tmp_path / "nowhere")
    with pytest.raises(UserError, match="clip_emoji: no weights of reward model 'clip_emoji'"):
        score.run(context(given, tmp_path / "out", data=world / "data"))


@pytest.mark.slow
def test_stopped_and_continued_gives_the_same_bytes(world: Path, tmp_path: Path) -> None:
    """By hand, where shards are kept beside the result; ``test_scoring`` kills processes that share a folder."""
    run(world, tmp_path / "whole", reward__batch_size=2)
    output = tmp_path / "stopped"
    given = config(world / "pairs.parquet", world / "rewards", reward__batch_size=2)

    def stop(done: int, _total: int, _unit: str) -> None:
        if done >= 40:
            raise Interrupted

    with pytest.raises(Interrupted):
        score.run(context(given, output, stop, data=world / "data"))
    assert not (output / "scores.parquet").exists()
    shards = output / ".state" / "scores"
    written = {path: path.stat().st_mtime_ns for path in shards.glob("*/[0-9]*.parquet")}
    assert len(written) == 2, "of 16 requests each; the third was under way"
    run(world, output, reward__batch_size=2)
    after = {path: path.stat().st_mtime_ns for path in shards.glob("*/[0-9]*.parquet")}
    assert after.items() > written.items(), "finished shards are not computed again, the others are"
    for name in ("scores.parquet", "problems.json"):
        assert (output / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("how, unit", [("z_score", "mean z-score"), ("percentile_rank", "mean percentile rank")])
def test_an_ensemble_is_the_mean_of_what_its_members_say_relative_to_the_data_set(
    world: Path, tmp_path: Path, how: str, unit: str
) -> None:
    """By hand from the members' own score artefacts, over distinct (image, caption)."""
    from scipy.stats import rankdata, zscore

    members = ["clip_emoji", "aesthetic_emoji"]
    expected = 0.0
    for name in members:
        rows = run(world, tmp_path / name, reward__model=name)
        scores = np.array([[row["winner_score"], row["loser_score"]] for row in rows], dtype=np.float64).T.ravel()
        values = zscore(scores) if how == "z_score" else (rankdata(scores) - 0.5) / len(scores)
        expected = expected + values / len(members)
    scored = run(world, tmp_path / "both", reward__model="ensemble", reward__members=members, reward__combine=how)
    scores = np.array([[row["winner_score"], row["loser_score"]] for row in scored], dtype=np.float64).T.ravel()
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert {row["scorer"] for row in scored} == {"ensemble"}
    assert {row["unit"] for row in scored} == {unit}


def test_a_majority_vote_counts_the_members_that_prefer_the_winner(world: Path, tmp_path: Path) -> None:
    members = ["clip_emoji", "aesthetic_emoji"]
    preferred = 0.0
    for name in members:
        gaps = [row["winner_score"] - row["loser_score"] for row in run(world, tmp_path / name, reward__model=name)]
        preferred = preferred + (np.sign(gaps) + 1) / 4
    votes = run(
        world, tmp_path / "v", reward__model="ensemble", reward__members=members, reward__combine="majority_vote"
    )
    assert [row["winner_score"] for row in votes] == list(preferred)
    assert [row["loser_score"] for row in votes] == list(1 - preferred)
    assert {row["unit"] for row in votes} == {"share of votes"}
    assert len(set(preferred)) > 1


@pytest.mark.parametrize(
    "members, message",
    [
        (None, "needs reward.members"),
        (["clip_emoji"], "at least two"),
        (["clip_emoji", "judge_emoji"], "'judge_emoji', which is an independent judge"),
        (["clip_emoji", "ensemble"], "'ensemble', which is an ensemble itself"),
    ],
)
def test_an_ensemble_of_the_wrong_members_is_refused(
    world: Path, tmp_path: Path, members: list[str] | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(world, tmp_path, reward__model="ensemble", reward__members=members)
