"""Step: images from generators of mixed quality, the raw material of preference pairs and choices.

A generator is a checkpoint with a guidance scale and a number of steps. Most of the mixture is the included model
itself, so that losers are mostly its own weaker images and a selection cannot simply pick generators.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from diffusers import AutoencoderKL
from PIL import Image
from rich.progress import track
from transformers import CLIPTokenizer

from experiments.emoji.build import text_to_image
from experiments.emoji.build.loop import device
from experiments.emoji.build.world import LATENT_CHANNELS, RESOLUTION, SEED, World

IMAGES_PER_CAPTION = 4
CHUNK = 64
JPEG_QUALITY = 82


@dataclass(frozen=True)
class Generator:
    """One source of images and its share of the mixture."""

    name: str
    checkpoint: str
    guidance_scale: float
    steps: int
    share: float


MIXTURE = (
    Generator("final-plain", "final", 1.0, 20, 0.35),
    Generator("final-guided", "final", 2.5, 20, 0.25),
    Generator("final-quick", "final", 1.5, 8, 0.15),
    Generator("middle-guided", "middle", 2.5, 20, 0.15),
    Generator("early-guided", "early", 2.5, 20, 0.10),
)


def draw_captions(world: World, count: int, seed: int, taken: set[str]) -> list[str]:
    """``count`` captions of the training split, none of them in ``taken``."""
    icons = pd.read_parquet(world.icons, columns=["caption", "split"])
    free = [caption for caption in icons.loc[icons["split"] == "train", "caption"] if caption not in taken]
    return [free[index] for index in np.random.default_rng(seed).permutation(len(free))[:count]]


def packed(pixels: np.ndarray) -> bytes:
    """An image [H, W, 3] in [0, 1] as JPEG with full colour resolution.

    Halved colour resolution (4:2:0, as lossy WebP has it) damages images this small so much that training on the pairs
    taught the model the damage: the gain of the best pairs over the base model was lost. Huffman tables made for the
    image save a quarter of the bytes.
    """
    stream = io.BytesIO()
    image = Image.fromarray((pixels * 255).round().astype(np.uint8))
    image.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    return stream.getvalue()


def generate(
    world: World, name: str, captions: list[str], vae: AutoencoderKL, words: CLIPTokenizer, seed: int
) -> pd.DataFrame:
    """``IMAGES_PER_CAPTION`` images for every caption; resumable by chunk. Columns: caption, generator, image."""
    folder = world.scratch(name)
    trained = text_to_image.train(world, vae, words)
    factor = text_to_image.factor_of(world, vae)
    rng = np.random.default_rng(seed)
    shares = np.array([generator.share for generator in MIXTURE])
    rows = pd.DataFrame({"caption": np.repeat(captions, IMAGES_PER_CAPTION)})
    rows["number"] = np.arange(len(rows))
    rows["generator"] = rng.choice(len(MIXTURE), size=len(rows), p=shares / shares.sum())
    chunks = []
    for index, generator in enumerate(MIXTURE):
        mine = rows[rows["generator"] == index]
        pipe = text_to_image.pipeline(vae, trained[generator.checkpoint], words, factor).to(device())
        pipe.set_progress_bar_config(disable=True)
        starts = range(0, len(mine), CHUNK)
        for start in track(starts, description=f"{name}: {generator.name}"):
            part = mine.iloc[start : start + CHUNK]
            path = folder / f"{generator.name}-{start:05d}.parquet"
            if not path.exists():
                _write(path, part, _call(pipe, generator, part, seed), generator)
            chunks.append(pd.read_parquet(path))
    return pd.concat(chunks).sort_values("number", ignore_index=True)


@torch.no_grad()
def _call(
    pipe: text_to_image.StableDiffusionPipeline, generator: Generator, part: pd.DataFrame, seed: int
) -> np.ndarray:
    size = RESOLUTION // 8
    noise = [
        np.random.default_rng([SEED, seed, n]).standard_normal((LATENT_CHANNELS, size, size)) for n in part["number"]
    ]
    images: np.ndarray = pipe(
        prompt=part["caption"].tolist(),
        guidance_scale=generator.guidance_scale,
        num_inference_steps=generator.steps,
        latents=torch.from_numpy(np.stack(noise).astype(np.float32)).to(device()),
        output_type="np",
    ).images
    return images


def _write(path: Path, part: pd.DataFrame, images: np.ndarray, generator: Generator) -> None:
    table = pa.table(
        {
            "number": part["number"].tolist(),
            "caption": part["caption"].tolist(),
            "generator": [generator.name] * len(part),
            "image": [packed(image) for image in images],
        }
    )
    pq.write_table(table, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
