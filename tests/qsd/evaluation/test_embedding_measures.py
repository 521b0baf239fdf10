"""Diversity and distance by hand values; the reward models that have embeddings; the names of the measures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsd.config.check import problem, schema_fields
from qsd.errors import UserError
from qsd.evaluation.embedding_measures import MEASURES, distances, diversity, measures_of
from qsd.evaluation.embeddings import Embeddings, read_embeddings, write_embeddings
from qsd.files import write_table
from qsd.rewards.clip import ClipScorer
from qsd.rewards.embedders import embedders, embeds
from qsd.rewards.opening import open_reward
from qsd.rewards.scorers import REGISTRY
from tests.qsd import tiny_world

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def at(*degrees: float) -> NDArray[np.float32]:
    """Unit vectors in the plane."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_distance_by_hand() -> None:
    left, right = at(0, 0, 0, 0), at(0, 60, 90, 180)
    assert distances(left, right).tolist() == pytest.approx([0, 0.5, 1, 2], abs=1e-6)
    assert distances(3 * left, 0.2 * right).tolist() == pytest.approx([0, 0.5, 1, 2], abs=1e-6), "length has no part"
    assert distances(at(13, 77), at(13, 77)).tolist() == [0, 0], "the same image, exactly"


def test_a_small_distance_keeps_its_digits() -> None:
    """In fp32, 1 - cosine of vectors a hundredth of a degree apart would be 0 or 6e-8."""
    near = np.array([[1.0, 0.0], [1.0, 2.0**-13]], dtype=np.float32)
    assert distances(near[:1], near[1:])[0] == pytest.approx(0.5 * 2.0**-26, rel=1e-6)


def test_diversity_by_hand() -> None:
    assert diversity(at(0, 60)).tolist() == pytest.approx([0.5, 0.5], abs=1e-6)
    assert diversity(at(20, 20, 20)).tolist() == [0, 0, 0]
    # Images 0 and 1 are the same, image 2 is at a right angle to both.
    assert diversity(at(0, 0, 90)).tolist() == pytest.approx([0.5, 0.5, 1], abs=1e-6)
    with pytest.raises(ValueError, match="at least two images"):
        diversity(at(0))


@given(st.integers(2, 6), st.integers(0, 999))
def test_its_mean_over_the_images_is_the_mean_distance_of_the_pairs(count: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, 5)).astype(np.float32)
    pairs = [
        1 - vectors[i] @ vectors[j] / np.linalg.norm(vectors[i]) / np.linalg.norm(vectors[j])
        for i in range(count)
        for j in range(i)
    ]
    assert diversity(vectors).mean() == pytest.approx(np.mean(pairs), abs=1e-5)


def test_vectors_that_are_no_direction_give_no_number() -> None:
    bad = np.array([[0, 0], [np.nan, 1], [np.inf, 1], [1, 0]], dtype=np.float32)
    assert np.isnan(distances(bad, at(0, 0, 0, 0))).tolist() == [True, True, True, False]
    assert np.isnan(diversity(bad[2:])).all()


def table(*prompts: str) -> pa.Table:
    numbers = [prompts[:place].count(prompt) for place, prompt in enumerate(prompts)]
    return pa.table(
        {
            "prompt_id": list(prompts),
            "split": ["evaluation"] * len(prompts),
            "caption": [f"caption {prompt}" for prompt in prompts],
            "image_index": pa.array(numbers, pa.int32()),
        }
    )


def test_images_are_compared_with_those_of_their_own_prompt() -> None:
    """Also where the images of a prompt do not follow each other."""
    diversity_of_image = Embeddings(table("a", "b", "a", "b"), at(0, 0, 60, 90)).diversity()
    assert diversity_of_image.dtype == np.float32
    assert diversity_of_image.tolist() == pytest.approx([0.5, 1, 0.5, 1], abs=1e-6)


def test_the_file_gives_back_what_was_written(tmp_path: Path) -> None:
    written = Embeddings(table("a", "a", "b/1"), at(10, 20, 30))
    write_embeddings(tmp_path, written)
    read_back = read_embeddings(tmp_path)
    assert read_back.vectors.dtype == np.float32
    assert read_back.vectors.tolist() == written.vectors.tolist()
    assert read_back.images() == [("a", 0), ("a", 1), ("b/1", 0)]
    assert read_back.about == written.about
    write_table(tmp_path / "embeddings.parquet", written.about)
    with pytest.raises(UserError, match=r"embeddings\.parquet: damaged"):
        read_embeddings(tmp_path)


def test_the_base_model_has_no_distance_to_itself() -> None:
    assert measures_of(None, "trained") == ()
    assert measures_of("clip_emoji", "trained") == ("diversity", "distance_to_base")
    assert measures_of("clip_emoji", "none") == ("diversity",)


def test_reward_models_that_open_as_a_clip_are_those_with_embeddings(tmp_path: Path) -> None:
    """What their files declare is what opening gives."""
    tiny_world.write_rewards(tmp_path)
    for name in ("clip_emoji", "clip_emoji_b", "judge_emoji", "aesthetic_emoji"):
        assert isinstance(open_reward(name, str(tmp_path), "cpu"), ClipScorer) == embeds(name), name
    without = set(REGISTRY.names()) - set(embedders())
    assert without == {
        "aesthetic_emoji",
        "aesthetic_v2",
        "ensemble",
        "external",
        "hps_v3",
        "image_reward",
        "image_reward_emoji",
        "jpeg_size",
        "precomputed",
        "texture",
    }


@pytest.mark.parametrize("name", ["aesthetic_emoji", "image_reward", "ensemble"])
def test_a_reward_model_without_embeddings_is_refused_by_name(name: str) -> None:
    field = schema_fields()["evaluation.embedder"]
    message = problem(field, name)
    assert message is not None
    assert message.startswith(f"reward model '{name}' has no image embedding; evaluation.embedder can be clip_emoji, ")
    assert all(other in message for other in embedders())
    assert problem(field, "clip_emoji_b") is problem(field, None) is None
    assert "did you mean 'clip_emoji'?" in str(problem(field, "clip_emoij"))


@pytest.mark.parametrize("name", MEASURES)
def test_no_reward_model_has_the_name_of_a_measure(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert name not in REGISTRY.names()
    monkeypatch.setattr(REGISTRY, "names", lambda: [name])  # as if there were such a file
    for field, value in (("reward.model", name), ("evaluation.scorers", [name]), ("evaluation.embedder", name)):
        message = problem(schema_fields()[field], value)
        assert message is not None
        assert f"'{name}' is not a reward model but a measure of images" in message
