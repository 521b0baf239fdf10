"""Step: the text-to-image model, a small Stable Diffusion: CLIP text encoder, UNet on latents, DDIM.

Made of the libraries' own classes and saved as a diffusers folder, so SD1.5 takes the same code path. Trained on
the training split with 10 % caption dropout and min-SNR weighting (Hang et al. 2023, gamma 5). Averaged weights of
early steps are kept as the weaker generators of the preference pairs.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from experiments.emoji.build import images, tokenizer
from experiments.emoji.build.loop import Recipe, device, fit
from experiments.emoji.build.vae import scaling_factor
from experiments.emoji.build.world import LATENT_CHANNELS, MAX_TOKENS, RESOLUTION, SEED, World

TEXT_WIDTH = 128
CHANNELS = (80, 160)
BATCH = 64
CAPTION_DROPOUT = 0.1
SNR_GAMMA = 5.0
STEPS = 12_000
RECIPE = Recipe(steps=STEPS, learning_rate=1e-3, warmup=200, ema=0.999)
EARLY = {0.25: "early", 0.5: "middle"}
"""Shares of the training after which the averaged weights are kept as weaker generators."""


def create_text_encoder(words: CLIPTokenizer) -> CLIPTextModel:
    """Two transformer layers of width 128; the ids of the special tokens are the tokenizer's."""
    torch.manual_seed(SEED + 10)
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        projection_dim=TEXT_WIDTH,
    )
    return CLIPTextModel(config)


def create_unet() -> UNet2DConditionModel:
    """Two resolutions (8 x 8 and 4 x 4); cross-attention at the lower one and in the middle."""
    torch.manual_seed(SEED + 11)
    return UNet2DConditionModel(
        sample_size=RESOLUTION // 8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def create_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """Posterior means of all icons, unscaled, [N, C, 8, 8]."""
    parts = [vae.encode(images.to_signed(part).to(device())).latent_dist.mean.cpu() for part in pixels.split(128)]
    return torch.cat(parts)


def min_snr_weights(scheduler: DDIMScheduler) -> Tensor:
    """Weight per timestep for epsilon prediction: min(SNR, gamma) / SNR."""
    alphas = scheduler.alphas_cumprod
    snr = alphas / (1 - alphas)
    return snr.clamp(max=SNR_GAMMA) / snr


def train(world: World, vae: AutoencoderKL, words: CLIPTokenizer, steps: int = STEPS) -> dict[str, nn.ModuleDict]:
    """Train UNet and text encoder together; returns the final averaged weights and those of the early snapshots."""
    modules = nn.ModuleDict({"unet": create_unet(), "text_encoder": create_text_encoder(words)}).to(device())
    folder = world.scratch("text_to_image")
    final = folder / "final.pt"
    if not final.exists():
        _fit(world, vae, words, modules, steps)
        torch.save(modules.state_dict(), final)
    trained: dict[str, nn.ModuleDict] = {}
    for name in (*EARLY.values(), "final"):
        state = torch.load(folder / f"{name}.pt", weights_only=True, map_location=device())
        loaded = copy.deepcopy(modules)
        loaded.load_state_dict(state)
        trained[name] = loaded.eval()
    return trained


def _fit(world: World, vae: AutoencoderKL, words: CLIPTokenizer, modules: nn.ModuleDict, steps: int) -> None:
    icons = images.load(world.icons)
    rows = icons.rows("train")
    latents = encode(vae, icons.pixels)
    latents *= scaling_factor(latents[rows])
    captions = icons.table["caption"].tolist()
    tokens = words(captions, padding="max_length", return_tensors="pt")["input_ids"]
    empty = words("", padding="max_length", return_tensors="pt")["input_ids"][0]
    scheduler = create_scheduler()
    alphas, weights = scheduler.alphas_cumprod, min_snr_weights(scheduler)
    unet, text_encoder = modules["unet"], modules["text_encoder"]

    def batch_loss(rng: np.random.Generator, _step: int) -> Tensor:
        chosen = rng.choice(rows, BATCH, replace=False)
        ids = tokens[chosen].clone()
        ids[torch.from_numpy(rng.random(BATCH) < CAPTION_DROPOUT)] = empty
        timesteps = torch.from_numpy(rng.integers(0, len(alphas), BATCH))
        noise = torch.from_numpy(rng.standard_normal((BATCH, *latents.shape[1:]), dtype=np.float32))
        signal = alphas[timesteps][:, None, None, None]
        noisy = signal.sqrt() * latents[chosen] + (1 - signal).sqrt() * noise
        with torch.autocast(device().type, torch.bfloat16):
            states = text_encoder(ids.to(device())).last_hidden_state
            predicted = unet(noisy.to(device()), timesteps.to(device()), states).sample
        errors = (predicted.float() - noise.to(device())).square().mean(dim=(1, 2, 3))
        return (weights[timesteps].to(device()) * errors).mean()

    recipe = Recipe(**{**vars(RECIPE), "steps": steps})
    snapshots = {round(share * steps): name for share, name in EARLY.items()}
    fit("text-to-image", modules, batch_loss, recipe, world.scratch("text_to_image"), SEED + 12, snapshots)


def pipeline(
    vae: AutoencoderKL, modules: nn.ModuleDict, words: CLIPTokenizer, factor: float
) -> StableDiffusionPipeline:
    """The standard pipeline with the trained parts, without safety checker."""
    vae.register_to_config(scaling_factor=factor)
    parts: dict[str, Any] = {
        "vae": vae,
        "text_encoder": modules["text_encoder"],
        "tokenizer": words,
        "unet": modules["unet"],
        "scheduler": create_scheduler(),
        "safety_checker": None,
        "feature_extractor": None,
        "image_encoder": None,
        "requires_safety_checker": False,
    }
    return StableDiffusionPipeline(**parts)


def factor_of(world: World, vae: AutoencoderKL) -> float:
    """The latent scaling factor of the training split."""
    icons = images.load(world.icons)
    return scaling_factor(encode(vae, icons.pixels[icons.rows("train")]))


def build(world: World, vae: AutoencoderKL, words: CLIPTokenizer) -> StableDiffusionPipeline:
    """Train and ship ``model/`` (fp16 weights); returns the pipeline in fp32."""
    trained = train(world, vae, words)
    built = pipeline(vae, trained["final"], words, factor_of(world, vae))
    if not (world.model / "model_index.json").exists():
        unused = tokenizer.build(world)  # ``words`` has been called, and would be saved with the padding of that call
        half = pipeline(copy.deepcopy(vae), copy.deepcopy(trained["final"]), unused, vae.config.scaling_factor)
        half.to(torch.float16).save_pretrained(world.model, safe_serialization=True)
        tokenizer.compact(world.model / "tokenizer")
    return built
