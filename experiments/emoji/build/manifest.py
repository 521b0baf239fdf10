"""Last step: hashes of every shipped file, and a look at the model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw

from experiments.emoji.build.world import LATENT_CHANNELS, RESOLUTION, SEED, World

CELL = 2 * RESOLUTION
COLUMNS = 12


def entries(assets: Path) -> dict[str, dict[str, object]]:
    """Size and SHA-256 of every file below ``assets`` but the manifest itself, by relative name."""
    files = sorted(path for path in assets.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {
        path.relative_to(assets).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    }


def differences(assets: Path) -> list[str]:
    """Names of files that the manifest does not describe as they are."""
    stated = json.loads((assets / "manifest.json").read_text(encoding="utf-8"))
    found = entries(assets)
    return sorted(name for name in stated.keys() | found.keys() if stated.get(name) != found.get(name))


def build(world: World) -> None:
    """Write ``manifest.json`` and print the total size."""
    found = entries(world.assets)
    (world.assets / "manifest.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    total = sum(path.stat().st_size for path in world.assets.rglob("*") if path.is_file())
    print(f"assets: {len(found)} files, {total / 1e6:.1f} MB")


@torch.no_grad()
def sample_sheet(world: World, target: Path, guidance_scale: float = 2.0, rows: int = 6) -> None:
    """A picture of ``rows`` x 12 samples of the shipped model for held-out (top half) and seen prompts."""
    prompts = pd.read_csv(world.assets / "prompts.csv")
    half = rows // 2 * COLUMNS
    chosen = pd.concat([prompts[prompts["split"] == split].head(half) for split in ("validation", "seen")])
    pipe = StableDiffusionPipeline.from_pretrained(world.model, safety_checker=None, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    shape = (len(chosen), LATENT_CHANNELS, RESOLUTION // 8, RESOLUTION // 8)
    noise = torch.from_numpy(np.random.default_rng(SEED + 40).standard_normal(shape).astype(np.float32))
    captions = chosen["caption"].tolist()
    images = pipe(captions, latents=noise, guidance_scale=guidance_scale, num_inference_steps=20).images
    sheet = Image.new("RGB", (COLUMNS * CELL, rows * (CELL + 28)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = number % COLUMNS * CELL, number // COLUMNS * (CELL + 28)
        sheet.paste(image.resize((CELL - 8, CELL - 8), Image.Resampling.NEAREST), (left + 4, top))
        name, style = caption.rsplit(", ", 1)
        draw.text((left + 4, top + CELL - 8), f"{name[:20]}\n{style}", fill="black")
    sheet.save(target)
