"""Step 2: the autoencoder, 64 x 64 x 3 <-> 8 x 8 x 8, trained on the training split alone."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.emoji.build import images
from experiments.emoji.build.loop import Recipe, device, fit
from experiments.emoji.build.world import LATENT_CHANNELS, RESOLUTION, SEED, World

CHANNELS = (16, 32, 64, 64)
RECIPE = Recipe(steps=3_600, learning_rate=2e-3, ema=0.998)
BATCH = 32
KL_WEIGHT = 1e-6
EDGE_WEIGHT = 0.5


def create() -> AutoencoderKL:
    """The architecture, randomly initialised."""
    torch.manual_seed(SEED)
    blocks = len(CHANNELS)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=RESOLUTION,
    )


def edges(image: Tensor) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical differences: a loss on them keeps outlines sharp."""
    return image[..., :, 1:] - image[..., :, :-1], image[..., 1:, :] - image[..., :-1, :]


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1 + 2 MSE + edge L1, a scalar."""
    loss = F.l1_loss(output, target) + 2 * F.mse_loss(output, target)
    for ours, theirs in zip(edges(output), edges(target), strict=True):
        loss = loss + EDGE_WEIGHT * F.l1_loss(ours, theirs)
    return loss


def psnr(vae: AutoencoderKL, pixels: Tensor) -> float:
    """Peak signal-to-noise ratio (dB) of the reconstruction, averaged over images."""
    with torch.no_grad():
        target = images.to_signed(pixels).to(device())
        output = vae.decode(vae.encode(target).latent_dist.mode()).sample.clamp(-1, 1)
        error = (output - target).square().mean(dim=(1, 2, 3)) / 4
    return float((-10 * torch.log10(error)).mean())


def train(world: World) -> AutoencoderKL:
    """Train the autoencoder, or read the result of a finished run."""
    vae = create().to(device())
    folder = world.scratch("vae")
    final = folder / "final.pt"
    if final.exists():
        vae.load_state_dict(torch.load(final, weights_only=True, map_location=device()))
        return vae.eval()
    icons = images.load(world.icons)
    rows = icons.rows("train")

    def batch_loss(rng: np.random.Generator, _step: int) -> Tensor:
        pixels = icons.pixels[rng.choice(rows, BATCH, replace=False)]
        pixels = images.shifted(pixels, rng, 4)
        target = images.to_signed(pixels).to(device())
        noise = torch.from_numpy(rng.standard_normal((BATCH, LATENT_CHANNELS, 8, 8), dtype=np.float32)).to(device())
        with torch.autocast(device().type, torch.bfloat16):
            posterior = vae.encode(target).latent_dist
            output = vae.decode(posterior.mean + posterior.std * noise).sample
        return reconstruction_loss(output.float(), target) + KL_WEIGHT * posterior.kl().mean()

    fit("vae", nn.ModuleDict({"vae": vae}), batch_loss, RECIPE, folder, SEED)
    vae.eval()
    print(f"vae: {psnr(vae, icons.pixels[icons.rows('evaluation', 'validation')]):.2f} dB on held-out icons")
    torch.save(vae.state_dict(), final)
    return vae


def scaling_factor(latents: Tensor) -> float:
    """1 / standard deviation of the latents, as Stable Diffusion defines it."""
    return float(1 / latents.std())
