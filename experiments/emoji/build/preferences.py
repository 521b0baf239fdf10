"""Step: preference pairs in Pick-a-Pic's columns, choices in HPD v2's JSON, both labelled by simulated annotators."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from diffusers import AutoencoderKL
from PIL import Image
from transformers import CLIPTokenizer

from experiments.emoji.build import annotators, generators
from experiments.emoji.build.world import SEED, World
from qsd.rewards import clip

PAIR_CAPTIONS = 1_000
PAIRS_PER_CAPTION = 3
CHOICE_CAPTIONS = 300
TEST_CAPTIONS = 60


def uid(image: bytes) -> str:
    """Content id of an image."""
    return hashlib.sha256(image).hexdigest()[:16]


def judged(world: World, table: pd.DataFrame) -> pd.DataFrame:
    """``table`` with the judge's score of every image, in standard deviations of differences within captions."""
    judge = clip.open_scorer(world.rewards / "judge_emoji")
    images = [Image.open(io.BytesIO(data)) for data in table["image"]]
    parts = np.array_split(np.arange(len(table)), max(1, len(table) // 256))
    captions = table["caption"].tolist()
    scores = [judge.score([images[i] for i in part], [captions[i] for i in part]) for part in parts]
    table = table.assign(score=np.concatenate(scores), uid=[uid(data) for data in table["image"]])
    within = table["score"] - table.groupby("caption")["score"].transform("mean")
    table["utility"] = table["score"] / (within.std() * np.sqrt(2))
    return table


def build_pairs(world: World, vae: AutoencoderKL, words: CLIPTokenizer) -> None:
    """Write ``pairs.parquet``."""
    target = world.assets / "pairs.parquet"
    if target.exists():
        return
    captions = generators.draw_captions(world, PAIR_CAPTIONS, SEED + 30, set())
    table = judged(world, generators.generate(world, "pair_images", captions, vae, words, SEED + 31))
    rng = np.random.default_rng(SEED + 32)
    people = annotators.recruit(rng)
    rows: list[dict[str, Any]] = []
    for _, group in table.groupby("caption", sort=False):
        possible = list(itertools.combinations(range(len(group)), 2))
        chosen = [possible[number] for number in rng.permutation(len(possible))[:PAIRS_PER_CAPTION]]
        for left, right in sided(chosen, rng):
            person = people[int(rng.integers(len(people)))]
            rows.append(_pair(group.iloc[left], group.iloc[right], person, len(rows), rng))
    packed = pa.Table.from_pylist(rows)
    temporary = target.with_suffix(".tmp")
    images = {"use_dictionary": True, "dictionary_pagesize_limit": 64 * 1024 * 1024}
    pq.write_table(packed, temporary, compression="zstd", row_group_size=600, **images)
    temporary.replace(target)
    labels = pd.Series([row["label_0"] for row in rows])
    agree = np.mean([row["follows_judge"] for row in rows if row["label_0"] != 0.5])
    print(f"pairs: {len(rows)}, {np.mean(labels == 0.5):.1%} ties; {agree:.1%} of the labels follow the judge")


def sided(pairs: Sequence[tuple[int, int]], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Decide which image of each pair is first: at random, but an image keeps its side within a caption where possible.

    A column of the table then contains it once. Sides are drawn without using the images, so they carry no information.
    """
    side: dict[int, int] = {}
    ordered = []
    for pair in pairs:
        first, second = rng.permutation(pair).tolist()
        if side.get(first, 0) == 1 or side.get(second, 1) == 0:
            first, second = second, first
        side.setdefault(first, 0)
        side.setdefault(second, 1)
        ordered.append((first, second))
    return ordered


def _pair(
    first: pd.Series, second: pd.Series, person: annotators.Annotator, row: int, rng: np.random.Generator
) -> dict[str, Any]:
    difference = float(first["utility"] - second["utility"])
    label = annotators.label(difference, person, rng)
    best = {1.0: first["uid"], 0.0: second["uid"], 0.5: "tie"}[label]
    return {
        "are_different": first["uid"] != second["uid"],
        "best_image_uid": best,
        "caption": first["caption"],
        "has_label": True,
        "image_0_uid": first["uid"],
        "image_1_uid": second["uid"],
        "jpg_0": first["image"],
        "jpg_1": second["image"],
        "label_0": label,
        "label_1": 1.0 - label,
        "model_0": first["generator"],
        "model_1": second["generator"],
        "num_example_per_prompt": PAIRS_PER_CAPTION,
        "ranking_id": row,
        "user_id": person.user_id,
        "follows_judge": label == 0.5 or (label == 1.0) == (difference > 0),
    }


def build_choices(world: World, vae: AutoencoderKL, words: CLIPTokenizer) -> None:
    """Write ``choices/``: train.json (pairs of images), test.json (four images ranked by four people), images.zip."""
    folder = world.assets / "choices"
    if (folder / "test.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    taken = set(generators.draw_captions(world, PAIR_CAPTIONS, SEED + 30, set()))
    captions = generators.draw_captions(world, CHOICE_CAPTIONS, SEED + 33, taken)
    table = judged(world, generators.generate(world, "choice_images", captions, vae, words, SEED + 34))
    table["file"] = [f"images/{name}.jpg" for name in table["uid"]]
    rng = np.random.default_rng(SEED + 35)
    people = annotators.recruit(rng)
    train: list[dict[str, Any]] = []
    test: list[dict[str, Any]] = []
    for number, (caption, group) in enumerate(table.groupby("caption", sort=False)):
        if number < TEST_CAPTIONS:
            test.append(_ranking(str(caption), group, people, rng))
            continue
        for left, right in itertools.combinations(range(len(group)), 2):
            train.extend(_choice(str(caption), group.iloc[left], group.iloc[right], people, rng))
    _zip(folder / "images.zip", dict(zip(table["file"], table["image"], strict=True)))
    for name, content in (("train.json", train), ("test.json", test)):
        (folder / name).write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")
    print(f"choices: {len(train)} for training, {len(test)} ranked groups for testing")


def _choice(
    caption: str, first: pd.Series, second: pd.Series, people: list[annotators.Annotator], rng: np.random.Generator
) -> list[dict[str, Any]]:
    person = people[int(rng.integers(len(people)))]
    label = annotators.label(float(first["utility"] - second["utility"]), person, rng)
    if label == 0.5:
        return []
    preference = [int(label), 1 - int(label)]
    return [{"human_preference": preference, "prompt": caption, "file_path": [first["file"], second["file"]]}]


def _ranking(
    caption: str, group: pd.DataFrame, people: list[annotators.Annotator], rng: np.random.Generator
) -> dict[str, Any]:
    annotations = []
    for index in rng.permutation(len(people))[:4]:
        person = people[index]
        gumbel = rng.gumbel(size=len(group)) * person.temperature
        order = np.argsort(-(person.sign * group["utility"].to_numpy() + gumbel))
        rank = np.empty(len(group), dtype=int)
        rank[order] = np.arange(1, len(group) + 1)
        annotations.append({"rank": rank.tolist(), "user_hash": f"simulated-{person.user_id:02d}"})
    mean = np.mean([annotation["rank"] for annotation in annotations], axis=0)
    return {
        "prompt": caption,
        "image_path": group["file"].tolist(),
        "rank": mean.tolist(),
        "raw_annotations": annotations,
    }


def _zip(path: Path, files: dict[str, bytes]) -> None:
    """Write a zip archive without compression and with a fixed date, so that the same images give the same bytes."""
    temporary = path.with_suffix(".tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name), data)
    temporary.replace(path)
