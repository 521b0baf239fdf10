"""A reward model that is not whole scores nothing, and asks no hub for the rest."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from qsd.errors import UserError
from qsd.rewards.checkpoint import read_checkpoint
from qsd.rewards.listing import preprocess_of
from qsd.rewards.scorers import REGISTRY
from tests.conftest import ROOT
from tests.qsd.models.damages import edit, read_damaged, rewrite

if TYPE_CHECKING:
    from collections.abc import Callable

REWARDS = ROOT / "experiments" / "emoji" / "assets" / "rewards"
NAMES = ("clip_emoji", "aesthetic_emoji", "hps_emoji", "image_reward_emoji")


def copied(name: str, weights: Path) -> Path:
    """The folder of a reward model, with those that it needs beside it."""
    spec = REGISTRY.get(name)
    for folder in spec.folders:
        shutil.copytree(REWARDS / folder, weights / folder)
    return weights / spec.folder


def scores(name: str, weights: Path) -> list[float]:
    spec = REGISTRY.get(name)
    preprocess_of(name, str(weights))
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    images = [Image.fromarray(pixels), Image.fromarray(pixels[::-1])]
    values: list[float] = spec.open(weights / spec.folder, "cpu").score(images, ["a red apple", "a cat"]).tolist()
    return values


def _hub_text(folder: Path) -> None:
    edit(folder / "config.json", lambda config: config["model_cfg"]["text_cfg"].update(hf_model_name="owner/name"))


def _hub_image(folder: Path) -> None:
    edit(folder / "config.json", lambda config: config["model_cfg"]["vision_cfg"].update(timm_model_name="vit"))


def _empty_vocabulary(folder: Path) -> None:
    (folder / "tokenizer" / "tokenizer.json").unlink()


def _poison(tensors: dict[str, Any]) -> None:
    tensors[min(tensors)].view(-1)[0] = torch.nan


@pytest.mark.parametrize(
    ("name", "break_it", "message"),
    [
        (
            "clip_emoji",
            _hub_text,
            r"model_cfg\.text_cfg\.hf_model_name is 'owner/name': its network would come from the",
        ),
        ("clip_emoji", _hub_image, r"model_cfg\.vision_cfg\.timm_model_name is 'vit'"),
        ("clip_emoji", _empty_vocabulary, "byte tokens"),
        ("clip_emoji", lambda folder: shutil.rmtree(folder / "tokenizer"), "tokenizer is missing"),
        ("clip_emoji", lambda folder: rewrite(folder / "model.safetensors", _poison), r"NaN or infinite numbers \(\w+"),
        ("hps_emoji", lambda folder: rewrite(folder / "trained.safetensors", _poison), "NaN or infinite numbers"),
        ("aesthetic_emoji", lambda folder: rewrite(folder / "head.safetensors", _poison), "NaN or infinite numbers"),
        (
            "clip_emoji",
            lambda folder: rewrite(folder / "model.safetensors", lambda tensors: tensors.pop("logit_scale")),
            r"do not fit config\.json: 1 tensors missing \(logit_scale\)",
        ),
        (
            "aesthetic_emoji",
            lambda folder: rewrite(folder / "head.safetensors", lambda tensors: tensors.update(other=torch.zeros(1))),
            "tensor other is not known",
        ),
        (
            "hps_emoji",
            lambda folder: rewrite(folder / "trained.safetensors", lambda tensors: tensors.pop("visual.proj")),
            r"1 tensors missing \(visual\.proj\)",
        ),
        ("hps_emoji", lambda folder: rewrite(folder / "trained.safetensors", dict.clear), "has no tensors"),
        (
            "aesthetic_emoji",
            lambda folder: edit(folder / "config.json", lambda config: config.update(clip=3)),
            "clip is 3",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_named(
    tmp_path: Path, name: str, break_it: Callable[[Path], object], message: str
) -> None:
    folder = copied(name, tmp_path)
    assert all(np.isfinite(scores(name, tmp_path)))
    break_it(folder)
    with pytest.raises(UserError, match=message):
        scores(name, tmp_path)


def test_the_hub_is_not_asked_through_a_clip_of_transformers(tmp_path: Path) -> None:
    """``hf_`` fields of no value are those of open_clip's own configurations."""
    folder = copied("clip_emoji", tmp_path)
    before = scores("clip_emoji", tmp_path)
    edit(folder / "config.json", lambda config: config["model_cfg"]["text_cfg"].update(hf_model_name=None))
    assert scores("clip_emoji", tmp_path) == before


def test_a_vocabulary_of_two_is_refused_for_a_blip_too(tmp_path: Path) -> None:
    copied("image_reward_emoji", tmp_path)
    (tmp_path / "clip_emoji" / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="the vocabulary is incomplete or another model's"):
        scores("image_reward_emoji", tmp_path)


def test_a_checkpoint_with_numbers_that_are_not_finite_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "HPS.pt"
    torch.save({"state_dict": {"a.weight": torch.ones(3), "b.weight": torch.tensor([1.0, torch.inf])}}, path)
    with pytest.raises(UserError, match=r"HPS\.pt: 1 tensors have NaN or infinite numbers \(b\.weight\)"):
        read_checkpoint(path)
    torch.save({"a.weight": torch.ones(3).int()}, path)
    with pytest.raises(UserError, match=r"1 tensors are no floating point numbers \(a\.weight\)"):
        read_checkpoint(path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_random_damages_are_one_line_or_change_nothing(tmp_path: Path, seed: int) -> None:
    name = random.Random(seed).choice(NAMES)
    given, done = read_damaged(copied(name, tmp_path), seed, lambda: scores(name, tmp_path))
    assert given is None or given == scores(name, REWARDS), done
