"""Reward models without weights: hand values, any size of image, and a full member's rights in stages and commands."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from qsd.data.images import decode
from qsd.errors import UserError
from qsd.rewards.fetch import fetch
from qsd.rewards.listing import listing
from qsd.rewards.opening import open_reward
from qsd.rewards.revision import revision
from qsd.rewards.scorers import REGISTRY
from qsd.rewards.scorers.texture import share
from qsd.stages.data import run as data
from qsd.stages.evaluate import run as evaluate
from qsd.stages.generate import run as generate
from qsd.stages.score import run as score
from tests.qsd.tiny_world import config, context, good_rows, picture, write_rewards, write_rows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.qsd.tiny_stages import TinyStages

NAMES = ["jpeg_size", "texture"]
NOISE = 1 - math.pi / 16
"""The share of white noise: the disc |f| <= 1/4 has the area π/16 of the unit square of frequencies."""


def grey(values: Any) -> torch.Tensor:
    """One RGB image [1, 3, H, W] of a luminance [H, W] in [0, 1]."""
    return torch.as_tensor(np.asarray(values), dtype=torch.float32).expand(1, 3, -1, -1)


def noise(size: int, seed: int = 0) -> torch.Tensor:
    return grey(0.5 + 0.1 * np.random.default_rng(seed).standard_normal((size, size)))


def grating(period: float, size: int = 64) -> torch.Tensor:
    """Stripes along x, one per ``period`` pixels."""
    return grey(np.tile(0.5 + 0.3 * np.sin(2 * np.pi * (np.arange(size) + 0.3) / period), (size, 1)))


def test_the_share_of_textures_by_hand() -> None:
    down, right = np.indices((64, 64))
    ramp = grey((down + right) / 126)
    blob = grey(np.exp(-((down - 32) ** 2 + (right - 20) ** 2) / 200))
    assert share(grey((down + right) % 2))[0] > 0.999
    assert share(grating(3))[0] > 0.999
    assert share(grating(6))[0] < 0.001
    assert share(ramp)[0] < 1e-4
    assert share(blob)[0] < 1e-4


@pytest.mark.parametrize("size", [32, 64, 256])
def test_white_noise_has_the_same_share_at_every_size(size: int) -> None:
    shares = torch.cat([share(noise(size, seed)) for seed in range(40)])
    assert float(shares.mean()) == pytest.approx(NOISE, abs=0.02)
    assert float(share(noise(size) + grating(16, size) - 0.5)) < 0.25, "a smooth pattern of more energy below it"


@pytest.mark.parametrize("size", [(64, 64), (37, 91), (1, 1), (2, 1)])
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_a_blank_image_has_no_texture(size: tuple[int, int], level: float) -> None:
    assert float(share(grey(np.full(size, level)))) == pytest.approx(0, abs=1e-6)


def test_rounding_of_a_blank_image_is_no_texture() -> None:
    """The share of noise is that of its kind, however weak; a fiftieth of a grey level is none."""
    weak = grey(0.5 + (0.02 / 255) * np.random.default_rng(0).standard_normal((64, 64)))
    assert float(share(weak)) < 1e-3
    assert float(share(noise(64) * 0.5)) == pytest.approx(float(share(noise(64))), abs=0.01)


def test_stronger_texture_on_a_picture_raises_the_share() -> None:
    down, right = np.indices((64, 64))
    ramp, board = (down + right) / 126, (down + right) % 2 - 0.5
    shares = [float(share(grey(ramp + strength * board))) for strength in (0, 0.02, 0.05, 0.1, 0.3)]
    assert shares == sorted(shares)
    assert shares[0] < 1e-4
    assert shares[-1] > 0.3


def test_the_gradient_of_texture_is_that_of_finite_differences() -> None:
    pixels = noise(12).clone().double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda given: share(given).sum(), (pixels,), eps=1e-6, atol=1e-6)


def test_pixels_that_are_no_numbers_stay_so_in_their_image_alone() -> None:
    pixels = noise(16).repeat(2, 1, 1, 1)
    pixels[0, 1, 2, 3] = math.nan
    for name in NAMES:
        values = open_reward(name, "", "cpu").score_tensor(pixels, ["", ""])
        assert values.isnan().tolist() == [True, False], name


def test_the_size_of_the_jpeg_by_hand() -> None:
    scorer = open_reward("jpeg_size", "nowhere", "cpu")
    images = [decode(picture(0, 48, 20)), decode(picture(1, 16, 16)), Image.new("RGB", (48, 20))]
    sizes = []
    for image in images:
        file = io.BytesIO()
        image.save(file, format="JPEG", quality=95)
        sizes.append(len(file.getvalue()) / 1000)
    scores = scorer.score(images, ["", "a cat", "a dog"])
    np.testing.assert_allclose(scores, -np.array(sizes), rtol=1e-6)
    assert scores[2] > scores[0], "a blank image is more compressible than noise"
    np.testing.assert_array_equal(scores, scorer.score(images, ["one", "two", "three"]))
    assert scorer.unit == "kB"


def test_a_reward_without_gradient_scores_pixels_after_rounding() -> None:
    spec, scorer = REGISTRY.get("jpeg_size"), open_reward("jpeg_size", "", "cpu")
    image = decode(picture(0))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    exact = scorer.score([image], [""])
    given = (pixels + 0.4 / 255).requires_grad_(True)
    scores = scorer.score_tensor(given, [""])
    assert scores.tolist() == exact.tolist()
    assert (spec.differentiable, scores.requires_grad) == (False, False)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_images(name: str) -> None:
    scorer = open_reward(name, "", "cpu")
    images = [decode(picture(seed, *size)) for seed, size in enumerate([(32, 32), (7, 40), (1, 1), (32, 32)])]
    images.append(images[0].convert("RGBA"))
    images.append(images[0].convert("L"))
    together = scorer.score(images, ["a"] * 6)
    assert together.dtype == np.float32
    assert together.tolist() == [scorer.score([image], ["b"])[0] for image in images]
    assert together[4] == together[0]
    assert scorer.score([], []).shape == (0,)
    with pytest.raises(ValueError, match="6 images but 1 captions"):
        scorer.score(images, ["a"])


def test_every_other_member_is_differentiable() -> None:
    without = {name for name in REGISTRY.names() if not REGISTRY.get(name).differentiable}
    assert without == {"external", "hps_v3", "jpeg_size", "precomputed"}


@pytest.mark.parametrize("name", NAMES)
def test_a_member_without_weights_needs_none(tmp_path: Path, name: str) -> None:
    spec = REGISTRY.get(name)
    assert spec.folders == ()
    assert revision(name, str(tmp_path)) == revision(name, "elsewhere") == open_reward(name, "", "cpu").revision
    assert revision("jpeg_size", "") != revision("texture", "")
    line = next(line for line in listing(tmp_path) if line.name == name)
    assert (line.size, line.revision) == (0, revision(name, ""))
    with pytest.raises(UserError, match=f"'{name}' has no weights of its own: there is nothing to fetch"):
        fetch(name, tmp_path)


def test_its_revision_is_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before = revision("texture", "")
    revision.cache_clear()
    monkeypatch.setattr(type(REGISTRY), "source", lambda *_: "other code")
    assert revision("texture", "") != before
    revision.cache_clear()


def test_texture_never_ranks_pairs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'texture' is an independent judge and must never rank pairs"):
        config(tmp_path, tmp_path, reward__model="texture")


def test_it_ranks_pairs_of_images_of_different_sizes(tmp_path: Path) -> None:
    """Alone, in an ensemble beside a network, and in another precision, where its scores are the same."""
    rows = good_rows(12)
    path = write_rows(tmp_path / "pairs.parquet", rows)
    weights = write_rewards(tmp_path / "rewards")
    data.run(context(config(path, weights), tmp_path / "data"))
    for output, settings in {
        "alone": {"reward__model": "jpeg_size"},
        "bf16": {"reward__model": "jpeg_size", "reward__precision": "bf16"},
        "ensemble": {"reward__model": "ensemble", "reward__members": ["clip_emoji", "jpeg_size"]},
    }.items():
        given = config(path, weights, reward__batch_size=5, **settings)
        score.run(context(given, tmp_path / output, data=tmp_path / "data"))
    alone, bf16, ensemble = (
        pq.read_table(tmp_path / output / "scores.parquet").to_pylist() for output in ("alone", "bf16", "ensemble")
    )
    scorer = open_reward("jpeg_size", "", "cpu")
    for line, other, row in zip(alone, bf16, rows, strict=True):
        winner, loser = ("jpg_0", "jpg_1") if row["label_0"] == 1 else ("jpg_1", "jpg_0")
        expected = scorer.score([decode(row[winner]), decode(row[loser])], ["", ""]).tolist()
        assert [line["winner_score"], line["loser_score"]] == expected
        assert [other["winner_score"], other["loser_score"]] == expected
        assert (line["unit"], line["revision"]) == ("kB", scorer.revision)
    assert len(ensemble) == len(rows)


def test_both_evaluate_images(world: TinyStages, tmp_path: Path) -> None:
    done = world.with_inputs(generate=world.run(generate, tmp_path / "images", adapter="none"))
    folder = done.run(evaluate, tmp_path / "scores", evaluation__scorers=["judge_emoji", *NAMES])
    rows = pq.read_table(folder / "scores.parquet").to_pylist()
    by_name = {name: [row["score"] for row in rows if row["scorer"] == name] for name in NAMES}
    assert all(len(values) == len(rows) / 3 for values in by_name.values())
    assert all(value < 0 for value in by_name["jpeg_size"])
    assert all(0 <= value < 1 for value in by_name["texture"])
