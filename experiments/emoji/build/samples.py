"""Last step: samples of the included model, for inspection by eye and by the judges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw

from experiments.emoji.build.world import LATENT_CHANNELS, RESOLUTION, SEED, World
from qsd.rewards import clip

CELL = 2 * RESOLUTION
COLUMNS = 12
STEPS = 20
BATCH = 156
JUDGES = ("judge_emoji", "clip_emoji_b")


@torch.no_grad()
def draw(world: World, captions: list[str], guidance_scale: float) -> list[Image.Image]:
    """One sample of the included model per caption, from noise that depends only on the position in the list."""
    pipe = StableDiffusionPipeline.from_pretrained(world.model, safety_checker=None, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    shape = (len(captions), LATENT_CHANNELS, RESOLUTION // 8, RESOLUTION // 8)
    noise = torch.from_numpy(np.random.default_rng(SEED + 40).standard_normal(shape).astype(np.float32))
    images: list[Image.Image] = []
    for start in range(0, len(captions), BATCH):
        part = slice(start, start + BATCH)
        drawn = pipe(captions[part], latents=noise[part], guidance_scale=guidance_scale, num_inference_steps=STEPS)
        images += drawn.images
    return images


@torch.no_grad()
def recognised(world: World, guidance_scale: float) -> dict[tuple[str, str], float]:
    """(split, judge) -> share of samples whose own caption is the judge's first choice among all captions.

    The splits are validation (held out of training) and seen; the evaluation prompts are not used.
    """
    prompts = pd.read_csv(world.assets / "prompts.csv")
    captions = pd.read_parquet(world.captions)["caption"].tolist()
    shares: dict[tuple[str, str], float] = {}
    for split in ("validation", "seen"):
        own = prompts.loc[prompts["split"] == split, "caption"].tolist()
        images = draw(world, own, guidance_scale)
        for judge in JUDGES:
            scorer = clip.open_scorer(world.rewards / judge)
            vectors = scorer.embed_pixels(scorer.preprocess.pixels(images))
            texts = scorer.embed_captions(captions)
            nearest = (vectors @ texts.T).argmax(dim=1).tolist()
            shares[split, judge] = float(np.mean([captions[i] == c for i, c in zip(nearest, own, strict=True)]))
    return shares


def sample_sheet(world: World, target: Path, guidance_scale: float = 2.0, rows: int = 6) -> None:
    """An image of ``rows`` x 12 samples of the included model for held-out (top half) and seen prompts."""
    prompts = pd.read_csv(world.assets / "prompts.csv")
    half = rows // 2 * COLUMNS
    chosen = pd.concat([prompts[prompts["split"] == split].head(half) for split in ("validation", "seen")])
    captions = chosen["caption"].tolist()
    sheet = Image.new("RGB", (COLUMNS * CELL, rows * (CELL + 28)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (image, caption) in enumerate(zip(draw(world, captions, guidance_scale), captions, strict=True)):
        left, top = number % COLUMNS * CELL, number // COLUMNS * (CELL + 28)
        sheet.paste(image.resize((CELL - 8, CELL - 8), Image.Resampling.NEAREST), (left + 4, top))
        name, style = caption.rsplit(", ", 1)
        pen.text((left + 4, top + CELL - 8), f"{name[:20]}\n{style}", fill="black")
    sheet.save(target)
