"""Scores from a file: what is written out for a judge elsewhere, and what comes back ranks pairs as the judge does."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from qsd.data.images import decode
from qsd.errors import UserError
from qsd.rewards.export import export_images
from qsd.rewards.listing import listing
from qsd.rewards.opening import open_reward
from qsd.rewards.precomputed import image_digest
from qsd.runtime import silent
from qsd.stages.data import run as data
from qsd.stages.evaluate import run as evaluate
from qsd.stages.generate import run as generate
from qsd.stages.score import run as score
from qsd.stages.spec import stage_meaning
from tests.ablations.flat_values import FLAT
from tests.qsd.tiny_world import config, context, good_rows, picture, write_rewards, write_rows

if TYPE_CHECKING:
    from tests.qsd.tiny_stages import TinyStages

DIGEST = "ab" * 32
GOOD = f"image,caption,score\n{DIGEST},a cat,0.5\n"


def write(weights: Path, rows: list[dict[str, Any]] | str, name: str = "scores.csv", **stated: str) -> Path:
    """The folder of a judge; returns that of all."""
    folder = weights / "precomputed"
    folder.mkdir(parents=True, exist_ok=True)
    about = {"name": "VisionJudge", "revision": "2", "unit": "points", **stated}
    (folder / "config.json").write_text(json.dumps(about))
    if isinstance(rows, str):
        (folder / name).write_text(rows)
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), folder / name)
    else:
        with (folder / name).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["image", "caption", "score"])
            writer.writeheader()
            writer.writerows(rows)
    return weights


def judge(image: Image.Image, caption: str) -> float:
    """The judge elsewhere: any function of the image and the caption."""
    return float(np.asarray(image, np.float64).mean() / 255 + len(caption) / 100)


def scored(exported: Path) -> list[dict[str, Any]]:
    """What the judge makes of the images and the table that were written out for it."""
    with (exported / "requests.csv").open(newline="") as stream:
        rows: list[dict[str, Any]] = list(csv.DictReader(stream))
    for row in rows:
        row["score"] = judge(Image.open(exported / "images" / f"{row['image']}.png"), row["caption"])
    return rows


def test_a_digest_is_of_size_and_pixels() -> None:
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    expected = hashlib.sha256(b"2x1\n" + bytes([1, 2, 3, 1, 2, 3])).hexdigest()
    assert image_digest(image.width, image.height, image.tobytes()) == expected
    assert image_digest(1, 2, image.tobytes()) != expected


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet"])
def test_pairs_are_ranked_by_the_scores_that_come_back(tmp_path: Path, name: str) -> None:
    rows = good_rows(12)
    path = write_rows(tmp_path / "pairs.parquet", rows)
    images, items = export_images(path, None, tmp_path / "out", silent)
    assert images == len(list((tmp_path / "out" / "images").iterdir())) <= items
    weights = write(write_rewards(tmp_path / "rewards"), scored(tmp_path / "out"), name)
    given = config(path, weights, reward__model="precomputed", reward__batch_size=5)
    data.run(context(given, tmp_path / "data"))
    score.run(context(given, tmp_path / "score", data=tmp_path / "data"))
    for line, row in zip(pq.read_table(tmp_path / "score" / "scores.parquet").to_pylist(), rows, strict=True):
        winner, loser = ("jpg_0", "jpg_1") if row["label_0"] == 1 else ("jpg_1", "jpg_0")
        expected = [np.float32(judge(decode(row[side]), row["caption"])) for side in (winner, loser)]
        assert [line["winner_score"], line["loser_score"]] == expected
        assert (line["unit"], line["revision"]) == ("points", open_reward("precomputed", str(weights), "cpu").revision)


def test_generated_images_are_judged(world: TinyStages, tmp_path: Path) -> None:
    made = world.run(generate, tmp_path / "images", adapter="none")
    export_images(made, None, tmp_path / "out", silent)
    weights = write(world.root / "rewards", scored(tmp_path / "out"))
    done = world.with_inputs(generate=made)
    folder = done.run(evaluate, tmp_path / "scores", evaluation__scorers=["precomputed"], reward__weights=str(weights))
    table = pq.read_table(folder / "scores.parquet")
    assert sorted(table["score"].to_pylist()) == sorted(np.float32(row["score"]) for row in scored(tmp_path / "out"))


def test_an_image_without_a_score_is_named(tmp_path: Path) -> None:
    scorer = open_reward("precomputed", str(write(tmp_path, GOOD)), "cpu")
    image = decode(picture(0))
    digest = image_digest(image.width, image.height, image.tobytes())
    message = rf"scores\.csv: no score of image {digest} with the caption 'a dog' \(and of 1 more among 2\)"
    with pytest.raises(UserError, match=message):
        scorer.score([image, image], ["a dog", "a cat"])
    with pytest.raises(UserError, match="cannot score new images"):
        scorer.score_tensor(None, [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,score\n", r"scores\.csv: the columns caption are missing; it has image, score"),
        (f"image,caption,score\n{DIGEST[1:]},a,1\n", r"scores\.csv:2: image '.*' is no SHA-256 digest"),
        (f"{GOOD}{DIGEST},b,high\n", r"scores\.csv:3: score 'high' is no number"),
        (f"{GOOD}{DIGEST},a cat,0.6\n", r"scores\.csv:3: another score .* than in line 2: 0\.6, there 0\.5"),
        (f"{GOOD}{DIGEST},a, cat,0.6\n", r"scores\.csv:3: not as many cells as"),
        (f'{GOOD}{DIGEST},"a" cat,0.6\n', r"scores\.csv:3: a quotation mark inside a cell"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_reward("precomputed", str(write(tmp_path, text)), "cpu")


def test_a_damaged_parquet_of_scores_is_the_users_and_no_artefact(tmp_path: Path) -> None:
    weights = write(tmp_path, [{"image": DIGEST, "caption": "a cat", "score": "0.5"}], "scores.parquet")
    with pytest.raises(UserError, match=r"scores\.parquet: column 'score' must hold numbers, not string"):
        open_reward("precomputed", str(weights), "cpu")
    (tmp_path / "precomputed" / "scores.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(UserError, match=r"scores\.parquet: not a readable parquet file") as refused:
        open_reward("precomputed", str(weights), "cpu")
    assert "delete" not in str(refused.value)


def test_a_folder_states_its_judge_and_has_one_table(tmp_path: Path) -> None:
    weights = write(tmp_path, GOOD + GOOD.splitlines()[1] + "\n", unit="")
    with pytest.raises(UserError, match=r"config\.json: unit must be a text"):
        open_reward("precomputed", str(weights), "cpu")
    write(tmp_path, GOOD)
    first = next(line for line in listing(weights) if line.name == "precomputed")
    assert (first.unit, first.size) == ("points", 0)
    (tmp_path / "precomputed" / "scores.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"has both of scores\.csv and scores\.parquet"):
        open_reward("precomputed", str(weights), "cpu")


def test_other_scores_and_another_judge_are_another_reward_model(tmp_path: Path) -> None:
    revisions = {
        open_reward("precomputed", str(write(tmp_path / name, text, revision=name)), "cpu").revision
        for name, text in (("1", GOOD), ("2", GOOD), ("3", GOOD.replace("0.5", "0.6")))
    }
    assert len(revisions) == 3


def test_no_method_that_makes_images_can_be_trained_on_it(tmp_path: Path) -> None:
    values = {
        **FLAT,
        "reward.model": "precomputed",
        "reward.weights": str(write(tmp_path, GOOD)),
        "method.name": "tailorpo",
        "method.prompts": "experiments/emoji/assets/training_prompts.csv",
        "evaluation.prompts": "experiments/emoji/assets/prompts.csv",
        "evaluation.splits": ["evaluation"],
        "model.path": "someone/model@v1",
    }
    with pytest.raises(UserError, match=r"reward\.model precomputed: it has scores of stored images only"):
        stage_meaning("train", values)
