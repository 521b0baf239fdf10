"""The CLIP scorer that remembers captions: the same bits, and the text tower used once per batch of captions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from qsd.data.images import decode
from qsd.rewards import clip
from qsd.rewards.caption_memory import CaptionMemory
from tests.qsd.tiny_world import SIZE, picture, write_clip

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CAPTIONS = ["a cat", "a dog", "a cat", ""]
IMAGES = [decode(picture(seed, SIZE, SIZE)) for seed in range(4)]


def test_scores_are_the_same_bit_by_bit(tmp_path: Path) -> None:
    plain = clip.open_scorer(write_clip(tmp_path / "clip", 0))
    memory = CaptionMemory(plain)
    for captions in (CAPTIONS, CAPTIONS[::-1], CAPTIONS, CAPTIONS):
        np.testing.assert_array_equal(memory.score(IMAGES, captions), plain.score(IMAGES, captions))
    assert (memory.name, memory.revision, memory.unit) == (plain.name, plain.revision, plain.unit)


def test_captions_are_embedded_once_per_batch_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = CaptionMemory(clip.open_scorer(write_clip(tmp_path / "clip", 0)), batches=2)
    embedded = []
    encode = memory.model.encode_text
    monkeypatch.setattr(memory.model, "encode_text", lambda tokens: embedded.append(len(tokens)) or encode(tokens))
    for _ in range(3):
        memory.score(IMAGES, CAPTIONS)
    assert embedded == [3]
    memory.score(IMAGES[:1], ["a cat"])
    memory.score(IMAGES, CAPTIONS)
    assert embedded == [3, 1]
    memory.score(IMAGES[:1], ["a dog"])
    memory.score(IMAGES, CAPTIONS)
    memory.score(IMAGES[:1], ["a cat"])
    assert embedded == [3, 1, 1, 1], "of three batches the one that was used least recently is forgotten"


def test_what_was_remembered_without_gradients_serves_with_them(tmp_path: Path) -> None:
    memory = CaptionMemory(clip.open_scorer(write_clip(tmp_path / "clip", 0)))
    with torch.inference_mode():
        memory.embed_captions(CAPTIONS)
    pixels = torch.rand(4, 3, SIZE, SIZE, requires_grad=True)
    (gradient,) = torch.autograd.grad(memory.score_tensor(pixels, CAPTIONS).sum(), pixels)
    assert gradient.abs().sum() > 0
