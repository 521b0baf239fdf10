"""Step: ``aesthetic_emoji``, a linear head on the image embedding of ``clip_emoji``, in the shape of LAION's predictor.

Its ratings are simulated: icons of the training split, damaged at a known severity s, are rated 10 - 9 s (10 is clean).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.emoji.build import corruptions, images
from experiments.emoji.build.world import SEED, World
from qsd.rewards import aesthetic, clip

RIDGE = 1e-3
COPIES = 4


@torch.no_grad()
def embed(scorer: clip.ClipScorer, signed: Tensor) -> Tensor:
    """Unit image embeddings of images in [-1, 1]."""
    return torch.cat([scorer.model.encode_image(part, normalize=True) for part in signed.split(256)])


def fit(embeddings: Tensor, ratings: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression in float64: weight (1, D) and bias (1,)."""
    centre, level = embeddings.double().mean(0), ratings.double().mean()
    x, y = embeddings.double() - centre, ratings.double() - level
    weight = torch.linalg.solve(
        x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1], dtype=torch.float64) / x.shape[1], x.T @ y
    )
    return weight.float()[None], (level - weight @ centre).float()[None]


def build(world: World) -> None:
    """Write ``rewards/aesthetic_emoji`` and print how well it orders damage on held-out icons."""
    target = world.rewards / "aesthetic_emoji"
    if (target / "head.safetensors").exists():
        return
    scorer = clip.open_scorer(world.rewards / "clip_emoji")
    icons = images.load(world.icons)
    rng = np.random.default_rng(SEED + 4)

    def rated(rows: np.ndarray) -> tuple[Tensor, Tensor]:
        severity = torch.from_numpy(rng.random(len(rows), dtype=np.float32))
        signed = images.to_signed(icons.pixels[rows])
        parts = [
            corruptions.corrupt(part, level, rng)
            for part, level in zip(signed.split(256), severity.split(256), strict=True)
        ]
        return embed(scorer, torch.cat(parts)), 10 - 9 * severity

    weight, bias = fit(*rated(np.tile(icons.rows("train"), COPIES)))
    held, ratings = rated(icons.rows("validation", "evaluation"))
    correlation = torch.corrcoef(torch.stack([F.linear(held, weight, bias)[:, 0], ratings]))[0, 1]
    print(f"aesthetic_emoji: correlation {float(correlation):.2f} with the simulated ratings of held-out icons")
    aesthetic.save(target, {"weight": weight, "bias": bias}, "../clip_emoji")
