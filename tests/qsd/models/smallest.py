"""Published architectures at the smallest size."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from scripts.full_size import write
from scripts.full_size.architectures import ARCHITECTURES

if TYPE_CHECKING:
    from scripts.full_size.architectures import Architecture

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
