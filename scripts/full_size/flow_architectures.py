"""The published architectures of flow-matching models: settings of their parts, as in their repositories.

The settings are those of the ``config.json`` of each part on the Hugging Face hub, taken from diffusers' conversion
scripts and public copies, since the repositories themselves ask for an account.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CLIP_L: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}
CLIP_G: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
T5_XXL: dict[str, Any] = {
    "vocab_size": 32_128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10_240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "sample_size": 1024,
}


@dataclass(frozen=True)
class FlowArchitecture:
    """One pipeline.

    Attributes:
        pipeline: its class in diffusers.
        network: arguments of its transformer.
        vae: arguments of ``AutoencoderKL``.
        texts: arguments of each text model's configuration.
        text: shapes of the conditioning of one caption by field, as the family encodes it.
        parameters: what the parts have, to be checked against.
    """

    pipeline: str
    network: dict[str, Any]
    vae: dict[str, Any]
    texts: tuple[dict[str, Any], ...]
    text: dict[str, tuple[int, ...]]
    parameters: dict[str, int]


SD35_MEDIUM = FlowArchitecture(
    "StableDiffusion3Pipeline",
    {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 24,
        "attention_head_dim": 64,
        "num_attention_heads": 24,
        "joint_attention_dim": 4096,
        "caption_projection_dim": 1536,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 384,
        "dual_attention_layers": tuple(range(13)),
        "qk_norm": "rms_norm",
    },
    {**VAE, "scaling_factor": 1.5305, "shift_factor": 0.0609},
    (CLIP_L, CLIP_G, T5_XXL),
    {"clip": (77, 2048), "pooled": (2048,), "t5": (256, 4096)},
    # The transformer is published as 2.5 billion: with the table of positions, 226,492,416 numbers that are no
    # parameters.
    {
        "transformer": 2_243_171_520,
        "vae": 83_819_683,
        "text_encoder": 123_650_304,
        "text_encoder_2": 694_659_840,
        "text_encoder_3": 4_762_310_656,
    },
)
FLUX_DEV = FlowArchitecture(
    "FluxPipeline",
    {
        "patch_size": 1,
        "in_channels": 64,
        "num_layers": 19,
        "num_single_layers": 38,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 768,
        "guidance_embeds": True,
    },
    {**VAE, "scaling_factor": 0.3611, "shift_factor": 0.1159},
    (CLIP_L, T5_XXL),
    {"t5": (512, 4096), "pooled": (768,)},
    {
        "transformer": 11_901_408_320,
        "vae": 83_819_683,
        "text_encoder": 123_060_480,
        "text_encoder_2": 4_762_310_656,
    },
)
FLOW_ARCHITECTURES = {"sd35m": SD35_MEDIUM, "flux_dev": FLUX_DEV}
