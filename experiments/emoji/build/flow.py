"""Step: a flow-matching model of the same world, a small Stable Diffusion 3: three text models and a transformer.

Made of the libraries' own classes and saved as a diffusers folder, so SD3.5 takes the same code path. It shares the
autoencoder and the CLIP tokenizer of ``model/`` and learns the velocity (Esser et al. 2024) on the training split, with
10 % caption dropout. Its T5 has as many tokens as its CLIP models, which the tokenizer states.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from experiments.emoji.build import images, tokenizer
from experiments.emoji.build.loop import Recipe, device, fit
from experiments.emoji.build.text_to_image import BATCH, CAPTION_DROPOUT, encode
from experiments.emoji.build.world import LATENT_CHANNELS, MAX_TOKENS, RESOLUTION, SEED, World
from qsd.models.families.sd3 import joint_text

WIDTH = 160
LAYERS = 6
HEADS = 5
CLIP_WIDTH = 64
T5_WIDTH = 2 * CLIP_WIDTH
STEPS = 16_000
RECIPE = Recipe(steps=STEPS, learning_rate=1e-3, warmup=400, ema=0.999)
TEXT_PARTS = ("text_encoder", "text_encoder_2", "text_encoder_3")


def t5_tokenizer(captions: list[str]) -> T5TokenizerFast:
    """Every word of the captions is a token, the more frequent the likelier; other text is spelt in ASCII letters."""
    words = pd.Series(" ".join(captions).replace(",", " ").split()).value_counts()
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -12.0)]
    whole = [(f"▁{word}", math.log(count / words.sum())) for word, count in words.items() if len(str(word)) > 1]
    letters = [(chr(code), -14.0) for code in range(33, 127)]
    return T5TokenizerFast(vocab=[*special, *whole, *letters], extra_ids=0, model_max_length=MAX_TOKENS)


def clip_model(words: CLIPTokenizer, seed: int) -> CLIPTextModelWithProjection:
    """Two layers; the last but one is what the transformer attends to, as in SD3."""
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=CLIP_WIDTH,
        intermediate_size=4 * CLIP_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        projection_dim=CLIP_WIDTH,
    )
    return CLIPTextModelWithProjection(config)


def t5_model(words: T5TokenizerFast, seed: int) -> T5EncoderModel:
    """Two layers without dropout."""
    torch.manual_seed(seed)
    return T5EncoderModel(
        T5Config(
            vocab_size=len(words),
            d_model=T5_WIDTH,
            d_kv=32,
            d_ff=2 * T5_WIDTH,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
        )
    )


def create_transformer(seed: int) -> SD3Transformer2DModel:
    """16 patches of 2 x 2 latents beside the text's tokens."""
    torch.manual_seed(seed)
    size = RESOLUTION // 8
    return SD3Transformer2DModel(
        sample_size=size,
        patch_size=2,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=LAYERS,
        attention_head_dim=WIDTH // HEADS,
        num_attention_heads=HEADS,
        joint_attention_dim=T5_WIDTH,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=2 * CLIP_WIDTH,
        pos_embed_max_size=size // 2,
        qk_norm="rms_norm",
    )


def create(words: CLIPTokenizer, more_words: T5TokenizerFast) -> nn.ModuleDict:
    """All that is trained, by the names that the pipeline gives the parts."""
    return nn.ModuleDict(
        {
            "transformer": create_transformer(SEED + 50),
            "text_encoder": clip_model(words, SEED + 51),
            "text_encoder_2": clip_model(words, SEED + 52),
            "text_encoder_3": t5_model(more_words, SEED + 53),
        }
    )


def text(modules: nn.ModuleDict, clip_ids: Tensor, t5_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens [B, 2 x MAX_TOKENS, T5_WIDTH] and pooled text [B, 2 x CLIP_WIDTH], as the family ``sd3`` makes them."""
    clips = [modules[name](clip_ids, output_hidden_states=True) for name in TEXT_PARTS[:2]]
    conditioning = {
        "clip": torch.cat([output.hidden_states[-2] for output in clips], dim=-1),
        "t5": modules["text_encoder_3"](t5_ids).last_hidden_state,
    }
    return joint_text(conditioning, T5_WIDTH), torch.cat([output.text_embeds for output in clips], dim=-1)


def train(world: World, vae: AutoencoderKL, words: CLIPTokenizer, more_words: T5TokenizerFast, steps: int) -> Any:
    """Train all parts together; returns them with averaged weights, or reads the result of a finished run."""
    modules = create(words, more_words).to(device())
    folder = world.scratch("flow")
    final = folder / "final.pt"
    if final.exists():
        modules.load_state_dict(torch.load(final, weights_only=True, map_location=device()))
        return modules.eval()
    icons = images.load(world.icons)
    rows = icons.rows("train")
    latents = encode(vae, icons.pixels) * vae.config.scaling_factor
    texts = [*icons.table["caption"].tolist(), ""]
    ids = [
        encoder(texts, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt").input_ids
        for encoder in (words, more_words)
    ]

    def batch_loss(rng: np.random.Generator, _step: int) -> Tensor:
        chosen = rng.choice(rows, BATCH, replace=False)
        said = np.where(rng.random(BATCH) < CAPTION_DROPOUT, len(texts) - 1, chosen)
        sigma = torch.from_numpy(rng.standard_normal(BATCH, dtype=np.float32)).sigmoid()
        noise = torch.from_numpy(rng.standard_normal((BATCH, *latents.shape[1:]), dtype=np.float32))
        clean, share = latents[chosen], sigma[:, None, None, None]
        noisy = (1 - share) * clean + share * noise
        # On a CPU without matrix units for bf16 a step takes twice as long in it.
        with torch.autocast(device().type, torch.bfloat16, enabled=device().type == "cuda"):
            tokens, pooled = text(modules, ids[0][said].to(device()), ids[1][said].to(device()))
            predicted = modules["transformer"](
                hidden_states=noisy.to(device()),
                timestep=1000 * sigma.to(device()),
                encoder_hidden_states=tokens,
                pooled_projections=pooled,
            ).sample
        return (predicted.float() - (noise - clean).to(device())).square().mean()

    fit("flow model", modules, batch_loss, Recipe(**{**vars(RECIPE), "steps": steps}), folder, SEED + 54)
    torch.save(modules.state_dict(), final)
    return modules.eval()


def pipeline(
    vae: AutoencoderKL, modules: nn.ModuleDict, words: CLIPTokenizer, more_words: T5TokenizerFast
) -> StableDiffusion3Pipeline:
    """The standard pipeline; call it with ``max_sequence_length=20``."""
    vae.register_to_config(shift_factor=0.0)
    return StableDiffusion3Pipeline(
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        tokenizer=words,
        tokenizer_2=words,
        tokenizer_3=more_words,
        **modules,
    )


def build(world: World, steps: int = STEPS) -> None:
    """Train and ship ``flow_model/`` (fp16 weights), with the autoencoder and the tokenizer of ``model/``."""
    if (world.flow_model / "model_index.json").exists():
        return
    vae = AutoencoderKL.from_pretrained(world.model / "vae", torch_dtype=torch.float32).to(device()).eval()
    words = tokenizer.build(world)
    more_words = t5_tokenizer(pd.read_parquet(world.captions, columns=["caption"])["caption"].tolist())
    modules = train(world, vae, words, more_words, steps)
    # Both tokenizers have been called, and would be saved with the padding of that call.
    unused = tokenizer.build(world), t5_tokenizer(pd.read_parquet(world.captions)["caption"].tolist())
    made = pipeline(vae, modules, *unused)
    made.to(torch.float16).save_pretrained(world.flow_model, safe_serialization=True)
    for name in ("tokenizer", "tokenizer_2", "tokenizer_3"):
        tokenizer.compact(world.flow_model / name)
