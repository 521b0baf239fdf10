"""Reward models: folders, parity with plain arithmetic, batches, image shapes, gradients, refusals."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from qsd.config.digest import digest
from qsd.data.images import decode
from qsd.errors import UserError
from qsd.rewards import aesthetic, clip
from qsd.rewards.listing import listing
from qsd.rewards.opening import open_reward
from qsd.rewards.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess
from qsd.rewards.revision import revision
from tests.qsd.tiny_pipeline import tokenizer
from tests.qsd.tiny_world import SIZE, clip_config, picture, write_clip, write_rewards

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SHAPES = [(SIZE, SIZE), (SIZE, 2 * SIZE), (3 * SIZE, SIZE), (17, 9), (1, 1), (301, 7)]
IMAGES = [decode(picture(seed, *shape)) for seed, shape in enumerate(SHAPES)]
CAPTIONS = ["a cat", "a dog", "a cat", "", "ünïcode ☃ 猫", "a very long caption that does not fit into the context"]
RESNET = {"layers": [1, 1, 1, 1], "width": 16, "head_width": 16}


@pytest.mark.parametrize("resize", ["shortest", "longest"])
@pytest.mark.parametrize("image_tower", [None, RESNET], ids=["vit", "resnet"])
def test_a_batch_equals_batches_of_one(tmp_path: Path, resize: str, image_tower: dict[str, Any] | None) -> None:
    scorer = clip.open_scorer(write_clip(tmp_path / "clip", 0, resize, image_tower))
    together = scorer.score(IMAGES, CAPTIONS)
    alone = [scorer.score([image], [caption])[0] for image, caption in zip(IMAGES, CAPTIONS, strict=True)]
    assert together.dtype == np.float32
    assert np.abs(together).max() <= 1 + 1e-6
    np.testing.assert_allclose(together, alone, atol=2e-6)
    assert len(np.unique(np.round(together, 6))) == len(together)


def test_the_score_is_the_plain_cosine(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip", 3)
    scorer = clip.open_scorer(folder)
    model = clip.create(clip_config())
    model.load_state_dict({name: value.float() for name, value in load_file(folder / "model.safetensors").items()})
    pixels = torch.from_numpy(np.asarray(IMAGES[0]).copy()).permute(2, 0, 1)[None] / 255
    normalised = (pixels - torch.tensor(OPENAI_MEAN).view(3, 1, 1)) / torch.tensor(OPENAI_STD).view(3, 1, 1)
    ids = tokenizer()("a cat", padding="max_length", max_length=16, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        image, text = model.eval().encode_image(normalised), model.encode_text(ids)
        expected = torch.nn.functional.cosine_similarity(image, text)
    np.testing.assert_allclose(scorer.score(IMAGES[:1], ["a cat"]), expected.numpy(), atol=1e-6)


def test_weights_are_stored_in_half_and_computed_in_single_precision(tmp_path: Path) -> None:
    stored = load_file(write_clip(tmp_path / "clip", 0) / "model.safetensors")
    assert all(tensor.dtype == torch.float16 for tensor in stored.values())
    model = clip.open_scorer(tmp_path / "clip").model
    assert all(parameter.dtype == torch.float32 and not parameter.requires_grad for parameter in model.parameters())
    write_clip(tmp_path / "again", 0)
    assert digest(tmp_path / "again") == digest(tmp_path / "clip")


@pytest.mark.parametrize("resize", ["shortest", "longest"])
def test_the_differentiable_score_agrees_and_has_gradients(tmp_path: Path, resize: str) -> None:
    scorer = clip.open_scorer(write_clip(tmp_path / "clip", 0, resize))
    for image, tolerance in ((IMAGES[0], 1e-6), (IMAGES[1], 1e-6 if resize == "longest" else 5e-3)):
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255
        pixels.requires_grad_(True)
        value = scorer.score_tensor(pixels, ["a cat"])
        np.testing.assert_allclose(value.detach().numpy(), scorer.score([image], ["a cat"]), atol=tolerance)
        (gradient,) = torch.autograd.grad(value.sum(), pixels)
        assert gradient.abs().sum() > 0


def test_long_captions_are_cut_but_keep_their_end_token(tmp_path: Path) -> None:
    scorer = clip.open_scorer(write_clip(tmp_path / "clip", 0))
    long = "abcdefghijklmnopqrstuvwxyz"
    assert scorer.tokens([long])[0, -1] == tokenizer().eos_token_id
    np.testing.assert_allclose(
        scorer.score(IMAGES[:1], [long]), scorer.score(IMAGES[:1], [long[:14] + "zzz"]), atol=1e-6
    )
    assert abs(scorer.score(IMAGES[:1], [long]) - scorer.score(IMAGES[:1], [long[:13] + "zzz"])) > 1e-6


def test_padding_does_not_change_a_caption(tmp_path: Path) -> None:
    """The embedding is read at the end token, which sees nothing behind it."""
    scorer = clip.open_scorer(write_clip(tmp_path / "clip", 0))
    ids = scorer.tokens(["a cat"])
    end = int((ids[0] == tokenizer().eos_token_id).nonzero()[0])
    other = ids.clone()
    other[0, end + 1 :] = 5
    with torch.no_grad():
        torch.testing.assert_close(scorer.model.encode_text(ids), scorer.model.encode_text(other))


def test_preprocessing_by_hand() -> None:
    """HPS v2 pads the shorter side with black before normalising; CLIP crops the centre."""
    white = decode(picture(0, 2 * SIZE, SIZE)).point(lambda _value: 255)
    plain: dict[str, Any] = {"size": SIZE, "mean": (0, 0, 0), "std": (1, 1, 1)}
    padded = Preprocess.from_config({**plain, "resize": "longest"}).pixels([white])[0, 0]
    expected = [0.0] * (SIZE // 4) + [1.0] * (SIZE // 2) + [0.0] * (SIZE // 4)
    np.testing.assert_allclose(padded[:, SIZE // 2].numpy(), expected, atol=1e-6)
    assert Preprocess.from_config(plain).pixels([white]).min() == 1
    sharp, smooth = (
        Preprocess.from_config({**plain, "resize": "longest", "antialias": antialias}).pixels([IMAGES[2]])
        for antialias in (False, True)
    )
    assert (sharp - smooth).abs().max() > 0.05


def test_an_aesthetic_head_by_hand(tmp_path: Path) -> None:
    write_rewards(tmp_path)
    scorer = open_reward("aesthetic_emoji", str(tmp_path), "cpu")
    below = clip.open_scorer(tmp_path / "clip_emoji")
    with torch.no_grad():
        embedding = below.embed_pixels(below.preprocess.pixels(IMAGES))
    expected = embedding @ torch.linspace(-1, 1, 8) + 5
    np.testing.assert_allclose(scorer.score(IMAGES, CAPTIONS), expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(embedding.norm(dim=1).numpy(), 1, atol=1e-6)
    assert scorer.unit == "aesthetic"


def head(numbers: Sequence[int], widths: Sequence[int]) -> tuple[torch.nn.Sequential, dict[str, torch.Tensor]]:
    """Linear layers of these widths, and their tensors under these numbers."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    state = {
        f"layers.{number}.{part}": getattr(layer, part).detach()
        for number, layer in zip(numbers, layers, strict=True)
        for part in ("weight", "bias")
    }
    return torch.nn.Sequential(*layers), state


def test_a_chain_of_linear_layers_is_one_affine_map() -> None:
    chain, state = head(aesthetic.PUBLISHED, (8, 7, 6, 5, 4, 1))
    weight, bias = aesthetic.fold(state)
    inputs = torch.randn(5, 8)
    with torch.no_grad():
        torch.testing.assert_close(chain(inputs), inputs @ weight.T + bias)
    with pytest.raises(UserError, match="gives 2 numbers instead of one"):
        aesthetic.fold(head(aesthetic.PUBLISHED, (8, 7, 6, 5, 4, 2))[1])
    with pytest.raises(UserError, match="do not chain"):
        aesthetic.fold({**state, "layers.4.weight": torch.zeros(5, 5)})
    with pytest.raises(UserError, match="number 0, 2, 4, 6, those of the published head 0, 2, 4, 6, 7"):
        aesthetic.fold({name: value for name, value in state.items() if not name.startswith("layers.7")})


@pytest.mark.parametrize("numbers", [(0, 3, 6, 9, 11), (0, 2, 4, 6, 8), (0, 1, 2, 3, 4)])
def test_a_head_with_activations_is_not_folded(numbers: tuple[int, ...]) -> None:
    """The variant with ReLU has its linear layers at other places; folded, its scores would be another function."""
    with pytest.raises(
        UserError, match=f"its linear layers are number {', '.join(map(str, numbers))}, .* no affine map"
    ):
        aesthetic.fold(head(numbers, (8, 7, 6, 5, 4, 1))[1])


def test_tokenizers_that_would_be_misread_are_refused() -> None:
    words, config = tokenizer(), clip_config()
    text = config["text_cfg"]
    with pytest.raises(UserError, match=r"text_cfg\.eos_id is 2"):
        clip.check_tokenizer(words, {"text_cfg": {**text, "eos_id": 2}})
    with pytest.raises(UserError, match="vocab_size is 10"):
        clip.check_tokenizer(words, {"text_cfg": {**text, "vocab_size": 10}})
    clip.check_tokenizer(words, {"text_cfg": {**text, "pool_type": "argmax"}})
    words.add_tokens(["later"])
    with pytest.raises(UserError, match="'argmax' needs the end token to have the highest id"):
        clip.check_tokenizer(words, {"text_cfg": {**text, "pool_type": "argmax", "vocab_size": 600}})
    from transformers import CLIPTokenizer

    few = CLIPTokenizer(vocab={"a": 0, "a</w>": 1, "<|startoftext|>": 2, "<|endoftext|>": 3}, merges=[])
    with pytest.raises(UserError, match="byte tokens"):
        clip.check_tokenizer(few, {"text_cfg": {**text, "eos_id": 3}})


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _with_truncated_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def _with_other_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["model_cfg"]["text_cfg"]["width"] = 32
    (folder / "config.json").write_text(json.dumps(config))


def _with_unknown_field(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["model_cfg"]["text_cfg"]["widht"] = 32
    (folder / "config.json").write_text(json.dumps(config))


def _with_unknown_resize(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["preprocess"]["resize"] = "longer"
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "damage, message",
    [
        (_without_weights, "weights are missing"),
        (_with_truncated_weights, "truncated"),
        (_with_other_width, r"do not fit config\.json"),
        (_with_unknown_field, "widht"),
        (_with_unknown_resize, "preprocess.resize is 'longer'"),
    ],
)
def test_damaged_folders_are_refused(tmp_path: Path, damage: Any, message: str) -> None:
    damage(write_clip(tmp_path / "clip", 0))
    with pytest.raises(UserError, match=message):
        clip.open_scorer(tmp_path / "clip")


def test_a_scorer_names_itself_and_its_weights(tmp_path: Path) -> None:
    weights = str(write_rewards(tmp_path))
    scorer = open_reward("clip_emoji", weights, "cpu")
    assert (scorer.name, scorer.revision, scorer.unit) == ("clip_emoji", revision("clip_emoji", weights), "cosine")
    assert scorer.resolution == SIZE
    revisions = {revision(name, weights) for name in ("clip_emoji", "clip_emoji_b", "judge_emoji", "aesthetic_emoji")}
    assert len(revisions) == 4


def test_listing(tmp_path: Path) -> None:
    write_rewards(tmp_path)
    (tmp_path / "clip_emoji_b").rename(tmp_path / "elsewhere")
    listed = {line.name: line for line in listing(tmp_path)}
    assert listed["clip_emoji"].size == listed["aesthetic_emoji"].size == SIZE
    assert listed["clip_emoji_b"].revision is None
    assert not listed["judge_emoji"].selects
    assert [name for name in listed if not listed[name].is_judge] == ["texture"]
