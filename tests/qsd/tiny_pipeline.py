"""A random StableDiffusionPipeline of the smallest size, built from the libraries' classes: seconds on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

if TYPE_CHECKING:
    from pathlib import Path

RESOLUTION = 32
LATENT_SHAPE = (4, 8, 8)
MAX_TOKENS = 16


def tokenizer() -> CLIPTokenizer:
    """CLIP's byte tokens without merges: one token per character."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + place) for place in range(len(others))]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: place for place, token in enumerate(tokens)}, merges=[], model_max_length=MAX_TOKENS
    )


def text_encoder(words: CLIPTokenizer) -> CLIPTextModel:
    """One layer of width 16."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=MAX_TOKENS,
            eos_token_id=words.eos_token_id,
            bos_token_id=words.bos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )


def unet() -> UNet2DConditionModel:
    """Two levels of 16 and 32 channels, cross-attention in the lower one."""
    return UNet2DConditionModel(
        sample_size=LATENT_SHAPE[1],
        in_channels=LATENT_SHAPE[0],
        out_channels=LATENT_SHAPE[0],
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=8,
    )


def vae() -> AutoencoderKL:
    """32 x 32 x 3 to 8 x 8 x 4."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        layers_per_block=1,
        latent_channels=LATENT_SHAPE[0],
        norm_num_groups=4,
        sample_size=RESOLUTION,
        mid_block_add_attention=False,
    )


def pipeline(prediction_type: str = "epsilon", seed: int = 0) -> StableDiffusionPipeline:
    """The pipeline in memory; equal seeds give equal weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        words = tokenizer()
        return StableDiffusionPipeline(
            vae=vae(),
            text_encoder=text_encoder(words),
            tokenizer=words,
            unet=unet(),
            scheduler=DDIMScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                clip_sample=False,
                set_alpha_to_one=False,
                steps_offset=1,
                prediction_type=prediction_type,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def save(folder: Path, prediction_type: str = "epsilon", seed: int = 0, half: bool = False) -> Path:
    """Write the pipeline as a diffusers folder, with fp16 weights when `half`."""
    made = pipeline(prediction_type, seed)
    if half:
        made = made.to(torch.float16)
    made.save_pretrained(folder, safe_serialization=True)
    return folder
