"""The builder of the emoji world's flow model writes a model of the family ``sd3`` that the stock pipeline loads."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from PIL import Image

from experiments.emoji.build import flow
from experiments.emoji.build.world import ASSETS, MAX_TOKENS, RESOLUTION, World
from qsd.models.encoders import load_text_encoder
from qsd.models.families.sd3 import joint_text
from qsd.models.whole import check_whole

CPU = torch.device("cpu")


def _icon(row: int) -> bytes:
    """A picture of one colour."""
    stream = io.BytesIO()
    colour = tuple(np.random.default_rng(row).integers(0, 256, 3).tolist())
    Image.new("RGB", (RESOLUTION, RESOLUTION), colour).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two steps of training on plain pictures with the world's own captions, autoencoder and tokenizer."""
    root = tmp_path_factory.mktemp("world")
    made = World(root / "work", root / "assets")
    (root / "work").mkdir()
    for part in ("vae", "tokenizer"):
        shutil.copytree(ASSETS / "model" / part, made.model / part)
    table = pd.read_parquet(ASSETS / "captions.parquet").head(3 * flow.BATCH // 2)
    table["split"] = "train"
    table.to_parquet(made.captions)
    table.assign(image=[_icon(row) for row in range(len(table))]).to_parquet(made.icons)
    flow.build(made, steps=2)
    return made


@pytest.mark.slow
def test_it_is_a_whole_model_of_its_family(world: World) -> None:
    check_whole(str(world.flow_model))
    size = sum(path.stat().st_size for path in world.flow_model.rglob("*") if path.is_file())
    assert size < 18e6


@pytest.mark.slow
def test_captions_are_encoded_as_in_training_and_by_the_stock_pipeline(world: World) -> None:
    captions = ["", *pd.read_parquet(world.captions)["caption"].head(3)]
    stock = StableDiffusion3Pipeline.from_pretrained(world.flow_model, local_files_only=True, torch_dtype=torch.float32)
    with torch.no_grad():
        theirs, _, pooled, _ = stock.encode_prompt(captions, None, None, device=CPU, max_sequence_length=MAX_TOKENS)
        ids = [
            words(captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt").input_ids
            for words in (stock.tokenizer, stock.tokenizer_3)
        ]
        modules = torch.nn.ModuleDict({name: getattr(stock, name) for name in flow.TEXT_PARTS})
        trained, trained_pooled = flow.text(modules, *ids)
    ours = load_text_encoder(str(world.flow_model), CPU).conditioning(captions)
    assert theirs.shape == (4, 2 * MAX_TOKENS, flow.T5_WIDTH)
    for tokens, made in ((joint_text(ours, flow.T5_WIDTH), ours["pooled"]), (trained, trained_pooled)):
        torch.testing.assert_close(tokens, theirs)
        torch.testing.assert_close(made, pooled)


@pytest.mark.slow
def test_its_t5_knows_every_word(world: World) -> None:
    stock = StableDiffusion3Pipeline.from_pretrained(world.flow_model, local_files_only=True, torch_dtype=torch.float32)
    words = stock.tokenizer_3
    for caption in pd.read_parquet(world.captions)["caption"]:
        ids = words(caption).input_ids
        assert len(ids) <= MAX_TOKENS
        assert words.unk_token_id not in ids
        assert words.decode(ids, skip_special_tokens=True) == caption
