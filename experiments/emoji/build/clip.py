"""Step: CLIP-shaped scorers. Four of them, of the family that CLIP score, PickScore and HPS v2 belong to.

``clip_emoji`` (ViT, training split only) ranks pairs. ``clip_emoji_b`` (another ViT, all icons) is an independent
judge of results. ``judge_emoji`` (ResNet, all icons, contrastive plus a pairwise preference loss against graded damage)
plays the annotators and never selects. ``judge_emoji_b`` (a ViT with other weights, trained in the same way) judges
results and has neither labelled nor selected.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from open_clip.model import CLIP
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from experiments.emoji.build import corruptions, images, tokenizer
from experiments.emoji.build.loop import Recipe, device, fit
from experiments.emoji.build.world import MAX_TOKENS, RESOLUTION, SEED, World
from qsd.rewards import clip
from qsd.rewards.preprocess import Preprocess

BATCH = 128
PREFERENCE_WEIGHT = 0.5
RATING_WEIGHT = 2.0
DAMAGED = 48
"""Images of a batch that also appear damaged: damage costs more than the forward pass."""


@dataclass(frozen=True)
class ScorerRecipe:
    """One scorer: architecture, the splits it may see, and how it is trained.

    ``preference`` adds the pairwise loss against graded damage. ``rating`` adds a linear prediction of the damage from
    the embedding, so that an aesthetic head on it has something to read; the prediction itself is thrown away.
    """

    name: str
    vision: dict[str, Any]
    splits: tuple[str, ...]
    recipe: Recipe
    seed: int
    preference: bool = False
    rating: bool = False
    text: dict[str, Any] = field(default_factory=lambda: {"width": 128, "heads": 4, "layers": 2})

    def model_cfg(self, vocabulary: int) -> dict[str, Any]:
        """The open_clip configuration."""
        text = {"context_length": MAX_TOKENS, "vocab_size": vocabulary, **self.text}
        return {"embed_dim": 128, "vision_cfg": {"image_size": RESOLUTION, **self.vision}, "text_cfg": text}


_EVERY_SPLIT = ("train", "validation", "evaluation")
CLIP_EMOJI = ScorerRecipe(
    "clip_emoji",
    {"patch_size": 8, "width": 128, "layers": 4, "head_width": 32},
    ("train",),
    Recipe(steps=2_400, learning_rate=1e-3, weight_decay=0.1),
    SEED + 1,
    rating=True,
)
CLIP_EMOJI_B = ScorerRecipe(
    "clip_emoji_b",
    {"patch_size": 8, "width": 128, "layers": 5, "head_width": 32},
    _EVERY_SPLIT,
    Recipe(steps=700, learning_rate=1e-3, weight_decay=0.1),
    SEED + 2,
)
JUDGE_EMOJI = ScorerRecipe(
    "judge_emoji",
    {"layers": [1, 1, 1, 1], "width": 24},
    _EVERY_SPLIT,
    Recipe(steps=1_000, learning_rate=1e-3, weight_decay=0.1),
    SEED + 3,
    preference=True,
)

JUDGE_EMOJI_B = ScorerRecipe(
    "judge_emoji_b",
    {"patch_size": 8, "width": 160, "layers": 4, "head_width": 32},
    _EVERY_SPLIT,
    Recipe(steps=2_000, learning_rate=1e-3, weight_decay=0.1),
    SEED + 4,
    preference=True,
)


def preprocess() -> Preprocess:
    """64 px, no resizing needed for the world's own images; grey mean and half-range deviation."""
    return Preprocess(size=RESOLUTION, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def augmented(signed: Tensor, rng: np.random.Generator) -> Tensor:
    """Slight blur, noise and fading, so that scorers do not shy at generated images."""
    severity = torch.from_numpy(rng.random(len(signed), dtype=np.float32) * 0.35)
    severity = severity * torch.from_numpy((rng.random(len(signed)) < 0.5).astype(np.float32))
    kinds = (corruptions.blur, corruptions.noise, corruptions.wash)
    return corruptions.corrupt(signed, severity, rng, kinds)


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """The symmetric InfoNCE of CLIP (Radford et al. 2021): unit vectors [B, D] each, scalar out."""
    logits = scale * image.float() @ text.float().T
    target = torch.arange(len(image), device=image.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def preference_loss(cleaner: Tensor, dirtier: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """-log sigmoid of the scaled difference of cosines (Kirstain et al. 2023): the cleaner image should win."""
    difference = ((cleaner - dirtier).float() * text.float()).sum(dim=-1)
    return -F.logsigmoid(scale * difference).mean()


def train(
    world: World, what: ScorerRecipe, words: CLIPTokenizer, kinds: tuple[corruptions.Corruption, ...] | None = None
) -> CLIP:
    """Train one scorer and write its folder; reads it back when it is there."""
    model_cfg = what.model_cfg(len(words))
    model = clip.create(model_cfg, seed=what.seed).to(device())
    folder = world.scratch(what.name)
    final = folder / "final.pt"
    if final.exists():
        model.load_state_dict(torch.load(final, weights_only=True, map_location=device()))
        return model.eval()
    icons = images.load(world.icons)
    rows = icons.rows(*what.splits)
    encoded = words(icons.table["caption"].tolist(), padding="max_length", return_tensors="pt")["input_ids"]
    damage = kinds or corruptions.PIXEL_KINDS
    modules = nn.ModuleDict({"model": model})
    if what.rating:
        modules["rating"] = nn.Linear(model_cfg["embed_dim"], 1).to(device())

    def batch_loss(rng: np.random.Generator, _step: int) -> Tensor:
        chosen = rng.choice(rows, BATCH, replace=False)
        signed = images.to_signed(images.shifted(icons.pixels[chosen], rng, 5))
        first = augmented(signed, rng)
        batch = [first]
        if what.preference:
            low, high = np.sort(rng.random((2, DAMAGED), dtype=np.float32), axis=0)
            state = rng.bit_generator.state
            batch.append(corruptions.corrupt(signed[:DAMAGED], torch.from_numpy(low), rng, damage))
            rng.bit_generator.state = state
            batch.append(corruptions.corrupt(signed[:DAMAGED], torch.from_numpy(high), rng, damage))
        severity = torch.from_numpy(rng.random(DAMAGED, dtype=np.float32))
        if what.rating:
            batch.append(corruptions.corrupt(signed[:DAMAGED], severity, rng, damage))
        with torch.autocast(device().type, torch.bfloat16):
            vectors = model.encode_image(torch.cat(batch).to(device()), normalize=True)
            text = model.encode_text(encoded[chosen].to(device()), normalize=True)
        scale = model.logit_scale.clamp(max=float(np.log(100))).exp()
        loss = contrastive_loss(vectors[:BATCH], text, scale)
        if what.preference:
            cleaner, dirtier = vectors[BATCH:].chunk(2)
            loss = loss + PREFERENCE_WEIGHT * preference_loss(cleaner, dirtier, text[:DAMAGED], scale)
        if what.rating:
            predicted = modules["rating"](vectors[BATCH:].float())[:, 0]
            loss = loss + RATING_WEIGHT * F.mse_loss(predicted, severity.to(device()))
        return loss

    model.train()
    fit(what.name, modules, batch_loss, what.recipe, folder, what.seed)
    model.eval()
    for splits in (("train",), ("validation", "evaluation")):
        share = retrieval_accuracy(model, icons, encoded, icons.rows(*splits))
        print(f"{what.name}: {share:.1%} of the {' and '.join(splits)} icons find their caption among those")
    torch.save(model.state_dict(), final)
    return model


@torch.no_grad()
def retrieval_accuracy(model: CLIP, icons: images.Icons, encoded: Tensor, rows: np.ndarray) -> float:
    """Share of images whose nearest caption among those of ``rows`` is their own."""
    vectors = [
        model.encode_image(images.to_signed(icons.pixels[part]).to(device()), normalize=True)
        for part in np.array_split(rows, max(1, len(rows) // 256))
    ]
    text = model.encode_text(encoded[rows].to(device()), normalize=True)
    nearest = (torch.cat(vectors) @ text.T).argmax(dim=1).cpu()
    return float((nearest == torch.arange(len(rows))).float().mean())


def build(world: World, what: ScorerRecipe, vae: AutoencoderKL | None = None, scale: float = 1.2) -> None:
    """Train and ship ``rewards/<name>``; with an autoencoder, its own failures join the kinds of damage."""
    target = world.rewards / what.name
    if (target / "model.safetensors").exists():
        return
    words = tokenizer.build(world)
    kinds = corruptions.PIXEL_KINDS
    if vae is not None:
        kinds = (*kinds, corruptions.latent_noise(vae, scale))
    model = train(world, what, words, kinds)
    clip.save(target, model.cpu(), what.model_cfg(len(words)), preprocess(), tokenizer.build(world))
    tokenizer.compact(target / "tokenizer")


def build_second_judge(world: World) -> None:
    """Train and ship ``judge_emoji_b`` with the included autoencoder."""
    vae = AutoencoderKL.from_pretrained(world.model / "vae", torch_dtype=torch.float32).to(device()).eval()
    build(world, JUDGE_EMOJI_B, vae)
