"""The embedded emoji world: what is shipped is what its manifest, captions and splits say."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from experiments.emoji.build import annotators, captions, corruptions, icons, manifest, preferences, tokenizer
from experiments.emoji.build.world import ASSETS, MAX_TOKENS, RESOLUTION, STYLES
from qsd.data.readers import REGISTRY as READERS


def test_assets_are_what_the_manifest_says() -> None:
    assert manifest.differences(ASSETS) == []
    total = sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file())
    # The pictures and the first models are 39.6 MB; each family of reward models adds a member of at most 2.5 MB.
    assert total <= 45e6
    assert not [path for path in ASSETS.rglob("*") if path.suffix in (".pt", ".pkl", ".bin", ".ckpt")]


def test_splits_hold_out_a_tenth_and_at_most_one_style_per_emoji() -> None:
    table = pd.read_parquet(ASSETS / "captions.parquet")
    held = table[table["split"] != "train"]
    assert abs(len(held) / len(table) - icons.HELD_OUT_FRACTION) < 0.005
    assert held["emoji"].is_unique
    assert table["caption"].is_unique
    assert set(table["style"]) == set(STYLES.values())


def test_held_out_prompts_are_in_no_training_pair_or_choice() -> None:
    prompts = pd.read_csv(ASSETS / "prompts.csv")
    held = set(prompts.loc[prompts["split"].isin(["evaluation", "validation"]), "caption"])
    pairs = pd.read_parquet(ASSETS / "pairs.parquet", columns=["caption"])
    choices = json.loads((ASSETS / "choices" / "train.json").read_text(encoding="utf-8"))
    assert not held & set(pairs["caption"])
    assert not held & {choice["prompt"] for choice in choices}
    assert prompts["prompt_id"].is_unique
    assert prompts.groupby("split").size().to_dict() == {"evaluation": 312, "seen": 156, "validation": 156}


def test_training_prompts_are_those_of_the_pairs_and_held_out_from_nothing_else() -> None:
    training = pd.read_csv(ASSETS / "training_prompts.csv")
    prompts = pd.read_csv(ASSETS / "prompts.csv")
    pairs = pd.read_parquet(ASSETS / "pairs.parquet", columns=["caption"])
    assert len(training) == 957
    assert set(training["caption"]) == set(pairs["caption"]) - set(prompts["caption"])
    assert training["prompt_id"].is_unique
    assert not set(training["prompt_id"]) & set(prompts["prompt_id"])


def test_pairs_have_the_columns_of_pick_a_pic() -> None:
    table = pd.read_parquet(ASSETS / "pairs.parquet")
    for column in (
        "jpg_0",
        "jpg_1",
        "label_0",
        "label_1",
        "caption",
        "image_0_uid",
        "image_1_uid",
        "user_id",
        "ranking_id",
    ):
        assert column in table
    assert set(table["label_0"]) == {0.0, 0.5, 1.0}
    assert (table["label_0"] + table["label_1"] == 1).all()
    assert Image.open(io.BytesIO(table["jpg_0"][0])).size == (RESOLUTION, RESOLUTION)
    assert len(READERS.get("pickapic").open(ASSETS / "pairs.parquet")) == len(table)


def test_choices_are_in_the_layout_of_hpd() -> None:
    with zipfile.ZipFile(ASSETS / "choices" / "images.zip") as archive:
        files = set(archive.namelist())
    train = json.loads((ASSETS / "choices" / "train.json").read_text(encoding="utf-8"))
    for choice in train:
        assert sorted(choice["human_preference"]) == [0, 1]
        assert set(choice["file_path"]) <= files
    for group in json.loads((ASSETS / "choices" / "test.json").read_text(encoding="utf-8")):
        assert len(group["image_path"]) == len(group["rank"])
        assert set(group["image_path"]) <= files


@pytest.mark.slow
def test_cut_tokenizer_agrees_with_the_full_one() -> None:
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    full, ours = SimpleTokenizer(), CLIPTokenizer.from_pretrained(ASSETS / "model" / "tokenizer")
    names = {number: token for token, number in full.encoder.items()}
    texts = pd.read_parquet(ASSETS / "captions.parquet")["caption"].tolist()
    for text in texts[::7]:
        assert ours.convert_ids_to_tokens(ours(text)["input_ids"])[1:-1] == [names[i] for i in full.encode(text)]
    assert tokenizer.longest(ours, texts) <= MAX_TOKENS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("croissant", "a croissant"),
        ("open-book", "an open book"),
        ("8-ball", "an 8 ball"),
        ("unicorn", "a unicorn"),
        ("hourglass-done", "an hourglass done"),
        ("chopsticks", "chopsticks"),
    ],
)
def test_captions(name: str, expected: str) -> None:
    assert captions.caption(name, "noto") == f"{expected}, noto style"


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1))
def test_damage_grows_with_severity_and_is_nothing_at_zero(seed: int) -> None:
    images = torch.rand((4, 3, 16, 16), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    for kind in corruptions.PIXEL_KINDS:
        if kind is corruptions.warp:
            continue
        distances = []
        for level in (0.0, 0.5, 1.0):
            damaged = kind(images, torch.full((4,), level), np.random.default_rng(seed))
            distances.append(float((damaged - images).square().mean()))
        assert distances[0] < 1e-9
        assert distances[2] >= distances[1] > 0


def test_minority_annotators_contradict_and_ties_happen() -> None:
    people = annotators.recruit(np.random.default_rng(0))
    assert sum(person.sign < 0 for person in people) == round(annotators.MINORITY_SHARE * len(people))
    rng = np.random.default_rng(1)
    follower = annotators.Annotator(0, 0.3, 1)
    contrarian = annotators.Annotator(1, 0.3, -1)
    assert np.mean([annotators.label(1.0, follower, rng) for _ in range(300)]) > 0.9
    assert np.mean([annotators.label(1.0, contrarian, rng) for _ in range(300)]) < 0.1
    assert annotators.label(0.01, follower, rng) == 0.5


@given(st.integers(0, 2**32 - 1))
def test_sides_are_drawn_by_chance_and_kept(seed: int) -> None:
    path = [(0, 1), (1, 2), (2, 3)]
    ordered = preferences.sided(path, np.random.default_rng(seed))
    assert [set(pair) for pair in ordered] == [set(pair) for pair in path]
    assert not {first for first, _ in ordered} & {second for _, second in ordered}


def test_no_side_wins_more_often() -> None:
    labels = pd.read_parquet(ASSETS / "pairs.parquet", columns=["label_0"])["label_0"]
    assert abs(float(labels.mean()) - 0.5) < 3 * 0.5 / len(labels) ** 0.5


def test_a_changed_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest.entries(tmp_path)))
    assert manifest.differences(tmp_path) == []
    (tmp_path / "a.txt").write_text("b")
    (tmp_path / "b.txt").write_text("b")
    assert manifest.differences(tmp_path) == ["a.txt", "b.txt"]
