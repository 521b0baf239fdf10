"""Published scorers against their originals, on reduced architectures in the published checkpoints' layouts.

``scripts/parity`` ran the originals in environments of their own and wrote ``tests/qsd/parity``; here the same random
weights go through the real loading code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from qsd.rewards import bpe, clip_published, hps, image_reward, pickscore
from qsd.rewards.aesthetic import on_clip
from qsd.rewards.blip import BlipSize
from qsd.rewards.preprocess import Preprocess
from qsd.rewards.scorer import Scorer
from qsd.rewards.scorers import clip_score
from scripts.parity.pictures import CAPTIONS, pictures, summary
from scripts.parity.sizes import BLIP, CLIP, bert_vocabulary
from scripts.parity.weights import checkpoint

TOLERANCE = 1e-5
OPENAI = {**CLIP, "quick_gelu": True}
PICTURES = pictures()
SAME_IN_OWN_MODE = [name for name, image in PICTURES.items() if image.mode in ("RGB", "L")]


def recorded(name: str) -> dict[str, Any]:
    return dict(json.loads((Path(__file__).parents[1] / "parity" / f"{name}.json").read_text(encoding="utf-8")))


def torch_file(folder: Path, name: str, state: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / name)
    return folder


@pytest.fixture(scope="module")
def scorers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scorer]:
    """Every published scorer at reduced size, from files in the published layouts."""
    root = tmp_path_factory.mktemp("weights")
    by_name: dict[str, Scorer] = {}
    state = {"epoch": 1, "name": "reduced", "state_dict": checkpoint(recorded("hps_v2")["layout"])}
    folder = torch_file(root / "hps_v2", "HPS_v2_compressed.pt", state)
    for name, preprocess in (
        ("no_antialias", hps.PREPROCESS),
        ("antialias", Preprocess(224, resize="longest", antialias=True)),
    ):
        by_name[name] = clip_published.open_clip_layout(folder, ("HPS_v2_compressed.pt",), CLIP, preprocess)
    for name in ("pickscore", "clip_score"):
        (root / name).mkdir()
        save_file(checkpoint(recorded(name)["layout"]), root / name / "model.safetensors")
    for unit in ("cosine", "logit"):
        by_name[unit] = clip_published.transformers_layout(root / "pickscore", CLIP, pickscore.PREPROCESS, "cpu", unit)
    below = clip_published.transformers_layout(
        root / "clip_score", OPENAI, clip_score.PREPROCESS, tokenize=bpe.as_openai
    )
    by_name["clip_score"] = below
    torch_file(root / "aesthetic_v2", "head.pth", checkpoint(recorded("aesthetic_v2")["layout"]))
    by_name["aesthetic_v2"] = on_clip(below, root / "clip_score", root / "aesthetic_v2" / "head.pth")
    state = checkpoint(recorded("image_reward")["layout"])
    state["blip.text_encoder.embeddings.position_ids"] = torch.arange(BLIP["positions"])[None]
    folder = torch_file(root / "image_reward", "ImageReward.pt", state)
    (folder / "vocab.txt").write_text("\n".join(bert_vocabulary()) + "\n", encoding="utf-8")
    by_name["image_reward"] = image_reward.open_scorer(folder, "cpu", BlipSize(**BLIP))
    return by_name


def scores_of(scorer: Scorer) -> dict[str, float]:
    captions = [CAPTIONS[place % len(CAPTIONS)] for place in range(len(PICTURES))]
    values = scorer.score(list(PICTURES.values()), captions)
    return dict(zip(PICTURES, values.tolist(), strict=True))


RECORDS = {
    "no_antialias": ("hps_v2", "no_antialias", "scores"),
    "antialias": ("hps_v2", "antialias", "scores"),
    "cosine": ("pickscore", "cosine"),
    "logit": ("pickscore", "logit"),
    "clip_score": ("clip_score", "scores"),
    "aesthetic_v2": ("aesthetic_v2", "scores"),
    "image_reward": ("image_reward", "scores"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_scores_are_those_of_the_original(scorers: dict[str, Scorer], name: str) -> None:
    expected: Any = recorded(RECORDS[name][0])
    for part in RECORDS[name][1:]:
        expected = expected[part]
    ours = scores_of(scorers[name])
    compared = {picture: value for picture, value in expected.items() if isinstance(value, float)}
    assert len(compared) >= len(PICTURES) - 2, "the original fails on two shapes at most"
    scale = 100 if name == "logit" else 1
    differences = {picture: abs(ours[picture] - value) / scale for picture, value in compared.items()}
    worst = max(differences, key=differences.__getitem__)
    print(f"{name}: largest difference {differences[worst]:.1e} ({worst}) of {len(compared)} images")
    assert differences[worst] < TOLERANCE, worst
    assert np.std(list(compared.values())) > 1000 * TOLERANCE, "scores that hardly differ prove nothing"
    assert all(np.isfinite(value) for value in ours.values())


@pytest.mark.parametrize("name", RECORDS)
def test_a_batch_equals_batches_of_one(scorers: dict[str, Scorer], name: str) -> None:
    together = scores_of(scorers[name])
    for place, (picture, image) in enumerate(PICTURES.items()):
        if "huge" in picture:
            continue
        alone = scorers[name].score([image], [CAPTIONS[place % len(CAPTIONS)]])[0]
        assert abs(alone - together[picture]) < (1e-3 if name == "logit" else TOLERANCE), picture


@pytest.mark.parametrize(
    "preprocess, record",
    [
        (hps.PREPROCESS, ("hps_v2", "no_antialias", "pixels")),
        (Preprocess(224, resize="longest", antialias=True), ("hps_v2", "antialias", "pixels")),
        (pickscore.PREPROCESS, ("pickscore", "pixels")),
        (clip_score.PREPROCESS, ("clip_score", "pixels")),
        (image_reward.PREPROCESS, ("image_reward", "pixels")),
    ],
    ids=["hps", "hps-antialias", "pickscore", "openai", "image_reward"],
)
def test_pixels_are_those_of_the_original(preprocess: Preprocess, record: tuple[str, ...]) -> None:
    expected: Any = recorded(record[0])
    for part in record[1:]:
        expected = expected[part]
    ours = preprocess.pixels(list(PICTURES.values()))
    assert ours.shape == (len(PICTURES), 3, 224, 224)
    compared = 0
    for (picture, values), pixels in zip(expected.items(), ours, strict=True):
        if isinstance(values, list):
            np.testing.assert_allclose(summary(pixels), values, atol=TOLERANCE, err_msg=picture)
            compared += 1
    assert compared >= len(PICTURES) - 2


@pytest.mark.parametrize(
    "name, part", [("pickscore", ""), ("clip_score", ""), ("image_reward", ""), ("hps_v2", "no_antialias")]
)
def test_the_originals_treat_rgb_and_gray_files_alike(name: str, part: str) -> None:
    """Images are made RGB first here; the originals' own order gives the same for these modes."""
    record = recorded(name)
    native = (record[part] if part else record)["native"]
    expected = (record[part] if part else record)["cosine" if name == "pickscore" else "scores"]
    for picture in SAME_IN_OWN_MODE:
        assert native[picture] == expected[picture], picture


def test_hps_fails_where_the_documentation_says_so() -> None:
    record = recorded("hps_v2")["no_antialias"]
    failing = {picture for picture, value in record["scores"].items() if isinstance(value, str)}
    assert failing == {"longer side 224: 224x100"}
    assert record["native"]["RGBA 300x200"].startswith("fails")


def test_captions_are_cut_as_the_originals_do(scorers: dict[str, Scorer]) -> None:
    assert bpe.as_open_clip(CAPTIONS, 77).tolist() == recorded("hps_v2")["tokens"]
    ours = bpe.as_transformers(CAPTIONS, 77).tolist()
    for caption, tokens, expected in zip(CAPTIONS, ours, recorded("pickscore")["tokens"], strict=True):
        assert tokens[: len(expected)] == expected, caption
        assert set(tokens[len(expected) :]) <= {49407}
    reward: Any = scorers["image_reward"]
    assert reward.tokens(CAPTIONS)[0].tolist() == recorded("image_reward")["tokens"]


@pytest.mark.parametrize("name", RECORDS)
def test_scores_have_gradients_in_the_pixels(scorers: dict[str, Scorer], name: str) -> None:
    pixels = torch.from_numpy(np.array(PICTURES["exact 224x224"])).permute(2, 0, 1)[None].float() / 255
    pixels.requires_grad_(True)
    value = scorers[name].score_tensor(pixels, [CAPTIONS[0]])
    expected = scorers[name].score([PICTURES["exact 224x224"]], [CAPTIONS[0]])
    np.testing.assert_allclose(value.detach().numpy(), expected, atol=1e-3 if name == "logit" else TOLERANCE)
    (gradient,) = torch.autograd.grad(value.sum(), pixels)
    assert gradient.abs().sum() > 0
