"""Latents and text embeddings, computed once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from qsd.data.images import PairImages, pair_image_number
from qsd.data.opening import open_source
from qsd.encoding.pixels import square, to_pixels
from qsd.encoding.store import EncodedPairs
from qsd.errors import UserError
from qsd.files import read_table
from qsd.models.encoders import ImageEncoder
from qsd.stages.encode import run as encode
from tests.qsd.tiny_stages import pair_ids, select

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tests.qsd.tiny_stages import TinyStages


def summary(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "summary.json").read_text()))


def test_unique_images_and_captions_are_encoded_once(world: TinyStages) -> None:
    """Rows 2k and 2k + 1 of the tiny world have the same two images and different captions."""
    counts = summary(world.artefacts["encode"])
    assert counts["pairs"] == counts["of_pairs"] == 12
    assert counts["images"] == 12
    assert counts["captions"] == 13
    assert counts["latent_shape"] == [4, 8, 8]


def test_what_is_stored_is_what_the_models_say(world: TinyStages) -> None:
    pairs = read_table(world.artefacts["data"] / "pairs.parquet").to_pylist()
    encoded = EncodedPairs(world.artefacts["encode"])
    _, rows = encoded.find([pairs[5]["pair_id"]])
    stock = StableDiffusionPipeline.from_pretrained(world.root / "model", local_files_only=True)
    image = PairImages(open_source(world.config().data)).image(pair_image_number(pairs[5]["source_row"], "loser"))
    with torch.no_grad():
        posterior = stock.vae.encode(to_pixels([image], 32)).latent_dist
    mean, std = encoded.posterior(rows.loser, np.array([False]))
    np.testing.assert_allclose(mean, posterior.mean * stock.vae.config.scaling_factor, atol=1e-5)
    np.testing.assert_allclose(std, posterior.std * stock.vae.config.scaling_factor, atol=1e-5)
    text, _ = stock.encode_prompt([pairs[5]["caption"]], torch.device("cpu"), 1, do_classifier_free_guidance=False)
    np.testing.assert_allclose(encoded.conditioning(rows.caption)["hidden_states"], text.detach(), atol=1e-5)


def test_a_selection_is_encoded_alone_and_alike(world: TinyStages, tmp_path: Path) -> None:
    ids = pair_ids(world)[3:6]
    part = world.with_inputs(select=select(tmp_path / "select", ids)).run(encode, tmp_path / "encode")
    assert summary(part)["pairs"] == 3
    small, large = EncodedPairs(part), EncodedPairs(world.artefacts["encode"])
    plain = np.zeros(3, dtype=bool)
    for mine, theirs in zip(
        small.posterior(small.find(ids)[1].winner, plain),
        large.posterior(large.find(ids)[1].winner, plain),
        strict=True,
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_the_whole_data_set_can_be_encoded(world: TinyStages, tmp_path: Path) -> None:
    few = world.with_inputs(select=select(tmp_path / "select", pair_ids(world)[:1]))
    assert summary(few.run(encode, tmp_path / "encode", encode__scope="dataset"))["pairs"] == 12


def test_flips_are_encoded_when_training_flips(world: TinyStages, tmp_path: Path) -> None:
    encoded = EncodedPairs(world.run(encode, tmp_path, training__flip=True))
    rows = np.zeros(2, dtype=np.int64)
    mean, _ = encoded.posterior(rows, np.array([False, True]))
    plain, _ = EncodedPairs(world.artefacts["encode"]).posterior(rows[:1], np.array([False]))
    np.testing.assert_array_equal(mean[0], plain[0])
    assert not np.allclose(mean[0], mean[1])


def broken_encoder(monkeypatch: pytest.MonkeyPatch, bad: int) -> None:
    """The VAE gives infinity for the first `bad` images of its first batch."""
    posterior = ImageEncoder.posterior
    left = [bad]

    def with_infinity(encoder: ImageEncoder, pixels: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = posterior(encoder, pixels)
        std[: left[0], 0, 0, 0] = torch.inf
        left[0] = 0
        return mean, std

    monkeypatch.setattr(ImageEncoder, "posterior", with_infinity)


def test_images_without_finite_latents_are_named_and_left_out(
    world: TinyStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_encoder(monkeypatch, 1)
    folder = world.run(encode, tmp_path, data__max_rejected_fraction=0.1)
    problems = json.loads((folder / "problems.json").read_text())["non_finite_latents"]
    assert problems["ids"] == read_table(folder / "images.parquet")["uid"].to_pylist()[:1]
    assert summary(folder)["pairs"] == 10
    present, _ = EncodedPairs(folder).find(pair_ids(world))
    assert present.sum() == 10


def test_too_many_of_them_fail_the_stage(world: TinyStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_encoder(monkeypatch, 4)
    with pytest.raises(UserError, match="4 of 12 refused"):
        world.run(encode, tmp_path, data__max_rejected_fraction=0.1)


def test_no_pairs_is_a_mistake(world: TinyStages, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no pairs to encode"):
        world.with_inputs(select=select(tmp_path / "select", [])).run(encode, tmp_path / "encode")


def test_a_damaged_artefact_is_named(world: TinyStages, tmp_path: Path) -> None:
    folder = world.run(encode, tmp_path)
    shard = folder / "hidden_states-00000.npy"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"hidden_states-00000\.npy: missing or damaged"):
        EncodedPairs(folder)


@pytest.mark.parametrize("size", [(32, 32), (33, 64), (100, 40), (7, 9)])
def test_images_become_squares(size: tuple[int, int]) -> None:
    assert square(Image.new("RGB", size), 32).size == (32, 32)


def test_pixels_span_minus_one_to_one_and_the_crop_is_central() -> None:
    image = Image.new("RGB", (64, 32), "black")
    image.paste("white", (16, 0, 48, 32))
    pixels = to_pixels([image, Image.new("RGB", (32, 32), "black")], 32)
    assert pixels.shape == (2, 3, 32, 32)
    assert (pixels[0] == 1).all()
    assert (pixels[1] == -1).all()
