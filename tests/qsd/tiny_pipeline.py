"""Random SD and SDXL pipelines of the smallest size, built from the libraries' classes: seconds on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from scripts.synthetic.tokenizer import byte_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import CLIPTokenizer

RESOLUTION = 32
LATENT_SHAPE = (4, 8, 8)
MAX_TOKENS = 16
NOISE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def tokenizer() -> CLIPTokenizer:
    """CLIP's byte tokens without merges: one token per character."""
    return byte_tokenizer(MAX_TOKENS)


def text_config(words: CLIPTokenizer, **settings: Any) -> CLIPTextConfig:
    """One layer of width 16, unless `settings` say otherwise."""
    usual = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return CLIPTextConfig(
        vocab_size=len(words),
        max_position_embeddings=MAX_TOKENS,
        eos_token_id=words.eos_token_id,
        bos_token_id=words.bos_token_id,
        pad_token_id=words.pad_token_id,
        **{**usual, **settings},
    )


def unet(**settings: Any) -> UNet2DConditionModel:
    """Two levels of 16 and 32 channels, cross-attention in the lower one; `settings` replace or add to that."""
    usual: dict[str, Any] = {
        "sample_size": LATENT_SHAPE[1],
        "in_channels": LATENT_SHAPE[0],
        "out_channels": LATENT_SHAPE[0],
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**{**usual, **settings})


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
            text_encoder=CLIPTextModel(text_config(words)),
            tokenizer=words,
            unet=unet(),
            scheduler=DDIMScheduler(
                **NOISE, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type=prediction_type
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def pipeline_xl(prediction_type: str = "epsilon", seed: int = 0, force_zeros: bool = True) -> StableDiffusionXLPipeline:
    """SDXL's layout: two text models of unlike width, a UNet that is told the pooled text and the time ids.

    Its sampler is Euler's, as in the published model, whose settings say nothing of clipping.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        words = tokenizer()
        first = CLIPTextModel(text_config(words, num_hidden_layers=2))
        second = CLIPTextModelWithProjection(
            text_config(words, num_hidden_layers=3, hidden_size=24, projection_dim=20, hidden_act="gelu")
        )
        return StableDiffusionXLPipeline(
            vae=vae(),
            text_encoder=first,
            text_encoder_2=second,
            tokenizer=words,
            tokenizer_2=tokenizer(),
            unet=unet(
                cross_attention_dim=16 + 24,
                use_linear_projection=True,
                transformer_layers_per_block=(1, 2),
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=20 + 6 * 8,
            ),
            scheduler=EulerDiscreteScheduler(
                **NOISE, timestep_spacing="leading", steps_offset=1, prediction_type=prediction_type
            ),
            force_zeros_for_empty_prompt=force_zeros,
            add_watermarker=False,
        )


def save(folder: Path, prediction_type: str = "epsilon", seed: int = 0, half: bool = False) -> Path:
    """Write the pipeline as a diffusers folder, with fp16 weights when `half`."""
    made = pipeline(prediction_type, seed)
    if half:
        made = made.to(torch.float16)
    made.save_pretrained(folder, safe_serialization=True)
    return folder


def save_xl(folder: Path, prediction_type: str = "epsilon", seed: int = 0) -> Path:
    """Write the SDXL pipeline as a diffusers folder."""
    pipeline_xl(prediction_type, seed).save_pretrained(folder, safe_serialization=True)
    return folder
