"""Random pipelines of flow-matching models at the smallest size, built from the libraries' classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel, T5TokenizerFast

from tests.qsd.tiny_pipeline import RESOLUTION, text_config, tokenizer

if TYPE_CHECKING:
    from pathlib import Path

LATENT_SHAPE = (4, 8, 8)
T5_WIDTH = 32


def t5_tokenizer() -> T5TokenizerFast:
    """One token per printable ASCII character."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    return T5TokenizerFast(vocab=[*special, *((chr(code), -3.0) for code in range(33, 127))], extra_ids=0)


def t5_model(words: T5TokenizerFast) -> T5EncoderModel:
    """One layer of width 32."""
    return T5EncoderModel(T5Config(vocab_size=len(words), d_model=T5_WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2))


def vae(**settings: Any) -> AutoencoderKL:
    """32 x 32 x 3 to 8 x 8 x 4, with a shift of the latents and without the convolutions around them."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 16),
        layers_per_block=1,
        latent_channels=LATENT_SHAPE[0],
        norm_num_groups=4,
        sample_size=RESOLUTION,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.5,
        shift_factor=0.1,
        **settings,
    )


def sd3(t5: bool = True, seed: int = 0) -> StableDiffusion3Pipeline:
    """SD3.5-medium's layout: three text models, the first block with a second attention; without T5 if not ``t5``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        words, more_words = tokenizer(), t5_tokenizer()
        return StableDiffusion3Pipeline(
            transformer=SD3Transformer2DModel(
                sample_size=LATENT_SHAPE[1],
                patch_size=2,
                in_channels=LATENT_SHAPE[0],
                out_channels=LATENT_SHAPE[0],
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=T5_WIDTH,
                caption_projection_dim=16,
                pooled_projection_dim=20 + 12,
                pos_embed_max_size=8,
                dual_attention_layers=(0,),
                qk_norm="rms_norm",
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=vae(),
            text_encoder=CLIPTextModelWithProjection(text_config(words, num_hidden_layers=2, projection_dim=20)),
            tokenizer=words,
            text_encoder_2=CLIPTextModelWithProjection(
                text_config(words, num_hidden_layers=2, hidden_size=12, projection_dim=12, hidden_act="gelu")
            ),
            tokenizer_2=tokenizer(),
            text_encoder_3=t5_model(more_words) if t5 else None,
            tokenizer_3=more_words if t5 else None,
        )


def save_sd3(folder: Path, t5: bool = True) -> Path:
    """Write the pipeline as a diffusers folder."""
    sd3(t5).save_pretrained(folder, safe_serialization=True)
    return folder


def flux(dev: bool = True, seed: int = 0) -> FluxPipeline:
    """FLUX.1-dev's layout: with guidance and a shift that grows with the image; or FLUX.1-schnell's, without both."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        words, more_words = tokenizer(), t5_tokenizer()
        return FluxPipeline(
            transformer=FluxTransformer2DModel(
                in_channels=4 * LATENT_SHAPE[0],
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=T5_WIDTH,
                pooled_projection_dim=16,
                guidance_embeds=dev,
                axes_dims_rope=(2, 2, 4),
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if dev else 1.0, use_dynamic_shifting=dev),
            vae=vae(),
            text_encoder=CLIPTextModel(text_config(words)),
            tokenizer=words,
            text_encoder_2=t5_model(more_words),
            tokenizer_2=more_words,
        )


def save_flux(folder: Path, dev: bool = True) -> Path:
    """Write the pipeline as a diffusers folder."""
    flux(dev).save_pretrained(folder, safe_serialization=True)
    return folder
