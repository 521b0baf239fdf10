"""Rewards of latents: the pictures that the pipeline would show, gradients, an ensemble's scale, what is not finite."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from qsd.config.load import build, load_flat
from qsd.config.schema import RewardConfig
from qsd.data.images import decode as decode_file
from qsd.errors import UserError
from qsd.models.decoder import ImageDecoder, load_image_decoder
from qsd.models.encoders import load_image_encoder
from qsd.models.pipeline import decode, load_pipeline, pipeline_family
from qsd.rewards.opening import open_reward
from qsd.training.onpolicy import rewards
from qsd.training.onpolicy.rewards import LatentReward
from tests.qsd import tiny_pipeline
from tests.qsd.tiny_world import write_rewards

CPU = torch.device("cpu")
EMOJI = Path("experiments/emoji/assets")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_rewards(tmp_path_factory.mktemp("rewards")))


@pytest.fixture(scope="module")
def decoder() -> ImageDecoder:
    pipeline = tiny_pipeline.pipeline()
    return ImageDecoder(pipeline.vae.requires_grad_(False).eval(), CPU, pipeline_family(pipeline))


def latents(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *tiny_pipeline.LATENT_SHAPE, generator=torch.Generator().manual_seed(seed))


def config(weights: str, model: str = "clip_emoji", **settings: Any) -> RewardConfig:
    return RewardConfig(model=model, weights=weights, **settings)


class Table:
    """A scorer whose scores are set, one per image in the order of asking; of pixels, so that it has a gradient."""

    revision, unit = "0", "points"

    def __init__(self, name: str, values: list[float]) -> None:
        self.name, self.values = name, values

    def score_tensor(self, pixels: torch.Tensor, captions: list[str]) -> torch.Tensor:
        fixed, self.values = self.values[: len(captions)], self.values[len(captions) :]
        return torch.tensor(fixed) + 0 * pixels.sum(dim=(1, 2, 3))


def fixed(monkeypatch: pytest.MonkeyPatch, decoder: ImageDecoder, **values: list[float]) -> LatentReward:
    """An ensemble of scorers with these names that give these scores, in batches of two."""
    monkeypatch.setattr(rewards, "_opened", lambda name, *_: Table(name, values[name]))
    return LatentReward(RewardConfig(model="ensemble", members=list(values), weights=""), decoder, 2)


@pytest.fixture(scope="module")
def emoji() -> tuple[torch.Tensor, list[str]]:
    """Latents of six real images of the emoji world, with their captions."""
    rows = pq.read_table(EMOJI / "pairs.parquet").slice(0, 6).to_pylist()
    images = [torch.from_numpy(np.array(decode_file(row["jpg_0"]).convert("RGB"))) for row in rows]
    pixels = torch.stack(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    mean, _ = load_image_encoder(str(EMOJI / "model"), CPU).posterior(pixels)
    return mean, [row["caption"] for row in rows]


@pytest.mark.slow
def test_the_reward_is_that_of_the_pictures_of_the_pipeline(emoji: tuple[torch.Tensor, list[str]]) -> None:
    sample, captions = emoji
    path = str(EMOJI / "model")
    given = build(load_flat(Path("experiments/emoji.yaml"))).reward
    reward = LatentReward(given, load_image_decoder(path, CPU), 4)
    images = decode(load_pipeline(path, CPU), sample)
    shown = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images])
    pixels = reward.pixels(sample)
    assert pixels.shape == (6, 3, 64, 64)
    assert torch.equal((pixels * 255).round().to(torch.uint8), shown)
    of_pictures = open_reward(given.model, given.weights, "cpu").score(images, captions)
    scores = reward.score(sample, captions)
    assert scores.dtype == torch.float32
    assert not scores.requires_grad
    np.testing.assert_allclose(scores.numpy(), of_pictures, atol=2e-3)
    assert np.std(of_pictures) > 0.02, "the tolerance tells them apart"
    # A scorer that rounds to 8 bits itself gives the very same.
    jpeg = LatentReward(replace(given, model="jpeg_size"), load_image_decoder(path, CPU), 4)
    exact = open_reward("jpeg_size", "", "cpu").score(images, captions)
    np.testing.assert_array_equal(jpeg.score(sample, captions).numpy(), exact)


def test_batches_are_its_parts_and_calls_are_counted(weights: str, decoder: ImageDecoder) -> None:
    sample, captions = latents(7), [f"picture {number}" for number in range(7)]
    reward = LatentReward(config(weights), decoder, 3)
    together = reward.score(sample, captions)
    assert (reward.calls, reward.member_calls) == (7, 7)
    alone = torch.cat([reward.score(one[None], [caption]) for one, caption in zip(sample, captions, strict=True)])
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=0)
    assert (reward.calls, reward.not_finite) == (14, 0)
    assert len(together.unique()) == 7
    assert reward.score(sample[:0], []).shape == (0,)
    with pytest.raises(ValueError, match="7 latents but 1 captions"):
        reward.score(sample, ["a cat"])
    assert reward.described == "clip_emoji (cosine)"


@pytest.mark.parametrize("model", ["clip_emoji", "aesthetic_emoji", "texture"])
def test_the_gradient_is_that_of_finite_differences(weights: str, decoder: ImageDecoder, model: str) -> None:
    sample, captions = latents(2), ["a cat", "a dog"]
    reward = LatentReward(config(weights, model), decoder, 1)
    state = sample.clone().requires_grad_(True)
    with torch.no_grad():  # as the caller's sampling loop
        scores = reward.score_with_gradient(state, captions)
    torch.testing.assert_close(scores.detach(), reward.score(sample, captions), atol=1e-6, rtol=0)
    (gradient,) = torch.autograd.grad(scores.sum(), state)
    for number in range(2):
        way = gradient[number] / gradient[number].norm()
        step = torch.zeros_like(sample)
        step[number] = 0.01 * way
        change = (reward.score(sample + step, captions) - reward.score(sample - step, captions)) / 0.02
        assert float(change[number]) == pytest.approx(float(gradient[number].norm()), rel=0.05)
        assert float(change[1 - number]) == pytest.approx(0, abs=1e-5)


def test_guidance_is_refused_without_a_gradient(weights: str, decoder: ImageDecoder) -> None:
    LatentReward(config(weights), decoder, 1).require_gradient()
    jpeg = LatentReward(config(weights, "jpeg_size"), decoder, 1)
    for refused in (jpeg.require_gradient, lambda: jpeg.score_with_gradient(latents(1), [""])):
        with pytest.raises(
            UserError, match=r"reward\.model: jpeg_size has no gradient .* use method tailorpo, or another"
        ):
            refused()
    both = LatentReward(config(weights, "ensemble", members=["clip_emoji", "jpeg_size"]), decoder, 1)
    with pytest.raises(UserError, match=r"reward\.members: jpeg_size has no gradient"):
        both.require_gradient()


@pytest.mark.parametrize("how", ["percentile_rank", "majority_vote"])
def test_an_ensemble_needs_a_scale_without_a_data_set(weights: str, decoder: ImageDecoder, how: str) -> None:
    given = config(weights, "ensemble", members=["clip_emoji", "jpeg_size"], combine=how)
    with pytest.raises(UserError, match=rf"reward\.combine is '{how}', .* use z_score"):
        LatentReward(given, decoder, 1)
    with pytest.raises(UserError, match="at least two reward models"):
        LatentReward(config(weights, "ensemble", members=["clip_emoji"]), decoder, 1)


def test_the_scale_of_an_ensemble_by_hand(decoder: ImageDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibration: clip 1, 3, NaN, 5 (mean 3, std √(8/3)); jpeg 10, 30, 20, 20 (mean 20, std √50); aesthetic equal."""
    nan, inf = math.nan, math.inf
    reward = fixed(
        monkeypatch,
        decoder,
        clip_emoji=[1, 3, nan, 5, 3, 5, inf],
        aesthetic_emoji=[7, 7, 7, 7, 9, 7, 7],
        hps_emoji=[10, 30, 20, 20, 20, 30, 20],
    )
    assert not reward.is_calibrated
    with pytest.raises(AssertionError, match="calibrate"):
        fixed(monkeypatch, decoder, clip_emoji=[1], hps_emoji=[1]).score(latents(1), [""])
    reward.calibrate(latents(4), [""] * 4)
    assert reward.is_calibrated
    assert (reward.calls, reward.member_calls) == (4, 12)
    scores = reward.score(latents(3), [""] * 3)
    assert scores[0] == 0, "a member without spread counts 0 whatever it scores"
    assert float(scores[1]) == pytest.approx((2 / math.sqrt(8 / 3) + 10 / math.sqrt(50)) / 3)
    assert not math.isfinite(scores[2])
    assert (reward.calls, reward.member_calls, reward.not_finite) == (7, 21, 1)
    assert reward.described == "ensemble of clip_emoji, aesthetic_emoji, hps_emoji (mean z-score)"


def test_a_member_without_any_finite_score_is_named(decoder: ImageDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = fixed(monkeypatch, decoder, clip_emoji=[1, 2], hps_emoji=[math.nan, math.inf])
    with pytest.raises(UserError, match="hps_emoji gives no finite score for any of 2 images"):
        reward.calibrate(latents(2), ["", ""])


def test_a_resumed_training_uses_the_same_scale(weights: str, decoder: ImageDecoder) -> None:
    given = config(weights, "ensemble", members=["clip_emoji", "aesthetic_emoji", "jpeg_size"])
    first, second = (LatentReward(given, decoder, 4) for _ in range(2))
    first.calibrate(latents(6), ["a cat"] * 6)
    stored = {name: tensor.clone() for name, tensor in first.tensors().items()}
    second.load_tensors(stored)
    sample = latents(3, seed=1)
    assert torch.equal(first.score(sample, ["a dog"] * 3), second.score(sample, ["a dog"] * 3))
    other = LatentReward(given, decoder, 4)
    other.calibrate(latents(6, seed=2), ["a cat"] * 6)
    assert not torch.equal(first.score(sample, ["a dog"] * 3), other.score(sample, ["a dog"] * 3))
    alone = LatentReward(config(weights), decoder, 4)
    alone.load_tensors(alone.tensors())
    alone.calibrate(sample, [""] * 3)
    assert (alone.tensors(), alone.calls, alone.is_calibrated) == ({}, 0, True)


@pytest.mark.parametrize("model", ["clip_emoji", "jpeg_size", "texture"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_stays_so_and_is_counted(
    weights: str, decoder: ImageDecoder, model: str, value: float
) -> None:
    sample = latents(3)
    sample[1, 0, 2, 2] = value
    reward = LatentReward(config(weights, model), decoder, 2)
    whole = LatentReward(config(weights, model), decoder, 2).score(latents(3), [""] * 3)
    scores = reward.score(sample, [""] * 3)
    assert scores.isfinite().tolist() == [True, False, True]
    assert reward.not_finite == 1
    torch.testing.assert_close(scores[[0, 2]], whole[[0, 2]], atol=2e-6, rtol=0)


def test_latents_are_scaled_back_before_the_vae(decoder: ImageDecoder) -> None:
    """As the network sees them they are (latent - shift) · scale; the VAE gives [-1, 1]."""

    class Shifted:
        def latent_scale(self, _vae: Any) -> tuple[float, float]:
            return 2.0, 0.25

    of_vae = latents(2)
    with torch.no_grad():
        expected = (decoder.vae.decode(of_vae).sample * 0.5 + 0.5).clamp(0, 1)
        pixels = replace(decoder, family=Shifted()).pixels((of_vae - 0.25) * 2)
        as_in_the_family = decoder.pixels(of_vae * decoder.vae.config.scaling_factor)
    torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(as_in_the_family, expected, atol=1e-5, rtol=0)


def test_an_infinite_pixel_is_not_clipped_to_white(decoder: ImageDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = decoder.vae.decode

    def damaged(latents: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
        pixels = plain(latents, return_dict=return_dict)[0].clone()
        pixels[0, 0, 0, 0] = math.inf
        pixels[0, 0, 0, 1] = 7.0
        return (pixels,)

    monkeypatch.setattr(decoder.vae, "decode", damaged)
    pixels = decoder.pixels(latents(1))
    assert pixels[0, 0, 0, 0].isnan()
    assert pixels[0, 0, 0, 1] == 1
    assert int(pixels.isnan().sum()) == 1
