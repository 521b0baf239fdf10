"""The scripts that run published architectures with random weights, here at the smallest size."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from qsd.stages.encode import run as encode
from qsd.stages.generate import run as generate
from qsd.stages.train import run as train
from scripts.full_size import write
from scripts.full_size.architectures import ARCHITECTURES
from scripts.full_size.compare import compare

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.full_size.architectures import Architecture
    from tests.qsd.tiny_stages import TinyStages

RESOLUTION = 32
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def smallest(name: str) -> Architecture:
    """The blocks of a published architecture, few and narrow."""
    published = ARCHITECTURES[name]
    levels = len(published.unet["down_block_types"])
    narrow: dict[str, Any] = {"block_out_channels": (8,) * levels, "norm_num_groups": 4, "attention_head_dim": 2}
    text: dict[str, Any] = {**TEXT, "projection_dim": 16}
    texts = tuple({**settings, **text} for settings in published.texts)
    narrow |= {"layers_per_block": 1, "cross_attention_dim": 16 * len(texts), "sample_size": RESOLUTION // 8}
    if len(texts) == 2:
        narrow |= {"transformer_layers_per_block": (1, 1, 2), "projection_class_embeddings_input_dim": 16 + 6 * 256}
    made = replace(
        published,
        unet={**published.unet, **narrow},
        vae={**published.vae, "block_out_channels": (4,) * 4, "norm_num_groups": 4, "layers_per_block": 1},
        texts=texts,
    )
    return replace(made, parameters=counts(made))


def counts(architecture: Architecture) -> dict[str, int]:
    """Parameters of every part, without making one."""
    with torch.device("meta"):
        parts: dict[str, torch.nn.Module] = {
            "unet": UNet2DConditionModel(**architecture.unet),
            "vae": AutoencoderKL(**architecture.vae),
        }
        kinds: tuple[Any, ...] = (CLIPTextModel, CLIPTextModelWithProjection)
        for name, kind, settings in zip(("text_encoder", "text_encoder_2"), kinds, architecture.texts, strict=False):
            words = {"vocab_size": write.VOCABULARY, "max_position_embeddings": write.TOKENS}
            parts[name] = kind(CLIPTextConfig(**words, **settings))
    return {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in parts.items()}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_have_as_many_parameters_as_the_published_ones(name: str) -> None:
    assert counts(ARCHITECTURES[name]) == ARCHITECTURES[name].parameters


def test_a_part_of_another_size_is_not_written(tmp_path: Path) -> None:
    wrong = replace(smallest("sd15"), parameters={"unet": 1})
    with pytest.raises(AssertionError, match=r"unet has [0-9,]+ parameters, not 1"):
        write.write(tmp_path, wrong, torch.float32)


def test_the_stock_pipeline_draws_the_projects_picture(world: TinyStages, tmp_path: Path) -> None:
    """What the script finds at full size: the difference is rounding with the adapter, and more without."""
    write.write(tmp_path / "model", smallest("sdxl"), torch.bfloat16)
    generation = {"steps": 2, "guidance_scale": 3, "precision": "bf16"}
    (tmp_path / "experiment.yaml").write_text(
        json.dumps({"model": {"resolution": RESOLUTION}, "generation": generation})
    )
    settings = {
        "model__path": str(tmp_path / "model"),
        "model__resolution": RESOLUTION,
        "training__steps": 2,
        "training__learning_rate": 0.1,
        "training__precision": "bf16",
        "evaluation__prompts_per_split": 1,
        **{f"generation__{field}": value for field, value in generation.items()},
    }
    done = world.with_inputs(encode=world.run(encode, tmp_path / "encode", **settings))
    done = done.with_inputs(train=done.run(train, tmp_path / "train", **settings))
    done.run(generate, tmp_path / "generate", **settings)
    found = compare(tmp_path)
    print(found)
    assert found.after.largest <= 6
    assert found.before.largest > 4 * found.after.largest
    assert found.spread > 50
