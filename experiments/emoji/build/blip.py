"""Step: ``image_reward_emoji``, BLIP-shaped with an MLP head, the family of ImageReward.

From scratch on some thousand choices it would learn nothing, as BLIP without its own pre-training would not. So it is
pre-trained on the icons of the training split, by ranking: an icon above other icons for its caption, its caption above
other captions for the icon, the less damaged of two copies above the more damaged one. The image tower starts from that
of ``clip_emoji``. Then it is fine-tuned on the choices.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTokenizer

from experiments.emoji.build import clip, corruptions, images, tokenizer
from experiments.emoji.build.loop import Recipe, device, fit
from experiments.emoji.build.world import MAX_TOKENS, RESOLUTION, SEED, World
from qsd.progress import ShownProgress
from qsd.reward_training.train import train_reward
from qsd.rewards import blip_reward, image_reward
from qsd.rewards import clip as clip_scorer
from qsd.rewards.blip import BlipSize
from qsd.rewards.blip_reward import BlipFolder, BlipReward
from qsd.rewards.image_reward import ImageRewardScorer

NAME = "image_reward_emoji"
RECIPE = Path("experiments/image_reward_emoji.yaml")
HEAD = (128, 64, 32, 16)
GROUPS, GROUP = 8, 4
"""A batch has this many groups of captions that are similar to each other, so that they are hard to distinguish."""
NEAR = 12
DAMAGED = 24
PRETRAINING = Recipe(steps=1_200, learning_rate=5e-4, weight_decay=0.05)


def size(vocabulary: int) -> BlipSize:
    """The image tower of ``clip_emoji``'s size, and two layers of half that width above the caption."""
    return BlipSize(
        image_size=RESOLUTION,
        patch_size=8,
        image_width=128,
        image_layers=4,
        image_heads=4,
        text_width=64,
        text_layers=2,
        text_heads=4,
        text_mlp=256,
        vocabulary=vocabulary,
        positions=MAX_TOKENS,
    )


def create(vocabulary: int) -> BlipReward:
    """Small embeddings as BERT's, and an MLP through which the scale neither grows nor shrinks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED + 4)
        model = BlipReward(size(vocabulary), HEAD)
        for name, parameter in model.named_parameters():
            if "embeddings" in name and parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
            elif name.startswith("mlp.") and parameter.dim() == 2:
                nn.init.xavier_normal_(parameter)
    return model


@torch.no_grad()
def image_tower(vision: nn.Module, signed: Tensor) -> dict[str, Tensor]:
    """An open_clip ViT's tensors under BLIP's names.

    BLIP's tower has no LayerNorm before its first block. That of CLIP is an affine map but for its division by the
    deviation of each token, in whose place the mean factor over the tokens of the images ``signed`` [N, 3, S, S] goes
    into the patches, the class token and the positions.
    """
    state = vision.state_dict()
    patches = F.conv2d(signed, state["conv1.weight"], stride=state["conv1.weight"].shape[-1]).flatten(2).transpose(1, 2)
    tokens = patches + state["positional_embedding"][1:]
    scale = state["ln_pre.weight"] * (1 / tokens.std(dim=-1, correction=0)).mean()

    def normed(values: Tensor) -> Tensor:
        return (values - values.mean(dim=-1, keepdim=True)) * scale

    kernel = state["conv1.weight"]
    tensors = {
        "patch_embed.proj.weight": (kernel - kernel.mean(dim=0, keepdim=True)) * scale[:, None, None, None],
        "patch_embed.proj.bias": torch.zeros(len(kernel)),
        "cls_token": normed(state["class_embedding"])[None, None],
        "pos_embed": (normed(state["positional_embedding"]) + state["ln_pre.bias"])[None],
        "norm.weight": state["ln_post.weight"],
        "norm.bias": state["ln_post.bias"],
    }
    names = {
        "ln_1.": "norm1.",
        "ln_2.": "norm2.",
        "attn.in_proj_": "attn.qkv.",
        "attn.out_proj.": "attn.proj.",
        "mlp.c_fc.": "mlp.fc1.",
        "mlp.c_proj.": "mlp.fc2.",
    }
    for name, tensor in state.items():
        if name.startswith("transformer.resblocks."):
            number, rest = name.removeprefix("transformer.resblocks.").split(".", 1)
            old = next(prefix for prefix in names if rest.startswith(prefix))
            tensors[f"blocks.{number}.{names[old]}{rest.removeprefix(old)}"] = tensor
    return tensors


@torch.no_grad()
def neighbours(scorer: clip_scorer.ClipScorer, captions: list[str]) -> np.ndarray:
    """For every caption the ``NEAR`` nearest others, [N, NEAR], by the cosine of their embeddings."""
    vectors = torch.cat(
        [scorer.embed_captions(captions[start : start + 256]) for start in range(0, len(captions), 256)]
    )
    cosines = vectors @ vectors.T
    cosines.fill_diagonal_(-1)
    return cosines.topk(NEAR, dim=1).indices.numpy()


def grouped(near: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of one batch, none twice: ``GROUPS`` anchors with ``GROUP`` - 1 of their neighbours each."""
    taken: list[int] = []
    for anchor in rng.permutation(len(near)):
        group = [int(anchor), *(int(row) for row in rng.permutation(near[anchor])[: GROUP - 1])]
        if not set(group) & set(taken):
            taken += group
        if len(taken) == GROUPS * GROUP:
            break
    return np.array(taken)


def pretrain(world: World, words: CLIPTokenizer) -> BlipReward:
    """Train on the icons of the training split; reads the result if it exists."""
    model = create(len(words)).to(device())
    folder = world.scratch(NAME)
    final = folder / "final.pt"
    if final.exists():
        model.load_state_dict(torch.load(final, weights_only=True, map_location=device()))
        return model
    icons = images.load(world.icons)
    rows = icons.rows("train")
    start = clip_scorer.open_scorer(world.rewards / "clip_emoji")
    model.blip.visual_encoder.load_state_dict(
        image_tower(start.model.visual, images.to_signed(icons.pixels[rows[:256]]))
    )
    captions = icons.table["caption"].tolist()
    encoded = words(captions, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")
    ids, mask = encoded["input_ids"], encoded["attention_mask"].bool()
    near = neighbours(start, [captions[row] for row in rows])

    def batch_loss(rng: np.random.Generator, _step: int) -> Tensor:
        chosen = rows[grouped(near, rng)]
        signed = images.to_signed(images.shifted(icons.pixels[chosen], rng, 5))
        low, high = np.sort(rng.random((2, DAMAGED), dtype=np.float32), axis=0)
        state = rng.bit_generator.state
        cleaner = corruptions.corrupt(signed[:DAMAGED], torch.from_numpy(low), rng)
        rng.bit_generator.state = state
        dirtier = corruptions.corrupt(signed[:DAMAGED], torch.from_numpy(high), rng)
        pixels = torch.cat([clip.augmented(signed, rng), cleaner, dirtier])
        count = len(chosen)
        words_of, seen = ids[chosen], mask[chosen]
        with torch.autocast(device().type, torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            tokens = model.blip.visual_encoder(pixels.to(device()))
            image = torch.cat([tokens[:count].repeat_interleave(count, dim=0), tokens[count:]])
            caption = torch.cat([words_of.repeat(count, 1), words_of[:DAMAGED].repeat(2, 1)]).to(device())
            shown = torch.cat([seen.repeat(count, 1), seen[:DAMAGED].repeat(2, 1)]).to(device())
            vectors = model.blip.text_encoder(caption, shown, image)[:, 0]
        rewards = model.rewards(vectors.float())
        matrix, (better, worse) = rewards[: count**2].view(count, count), rewards[count**2 :].view(2, -1)
        target = torch.arange(count, device=matrix.device)
        matching = (F.cross_entropy(matrix, target) + F.cross_entropy(matrix.T, target)) / 2
        return matching - F.logsigmoid(better - worse).mean()

    model.train()
    fit(NAME, nn.ModuleDict({"model": model}), batch_loss, PRETRAINING, folder, SEED + 4)
    torch.save(model.state_dict(), final)
    return model


def about(tokenizer_folder: str, mean: float = 0.0, std: float = 1.0) -> BlipFolder:
    """The contents of ``config.json`` in the reward model's folder."""
    return BlipFolder(clip.preprocess(), MAX_TOKENS, mean, std, tokenizer_folder)


def standardisation(world: World, scorer: ImageRewardScorer) -> tuple[float, float]:
    """Mean and standard deviation of the rewards of all images of the training choices, each with its caption."""
    choices = json.loads((world.assets / "choices" / "train.json").read_text(encoding="utf-8"))
    caption_of = {file: choice["prompt"] for choice in choices for file in choice["file_path"]}
    with zipfile.ZipFile(world.assets / "choices" / "images.zip") as archive:
        opened = [Image.open(io.BytesIO(archive.read(file))) for file in caption_of]
    captions = list(caption_of.values())
    parts = range(0, len(opened), 256)
    rewards = np.concatenate([scorer.score(opened[at : at + 256], captions[at : at + 256]) for at in parts])
    return float(rewards.mean()), float(rewards.std())


def build(world: World) -> None:
    """Pre-train, fine-tune by the recipe, and ship ``rewards/image_reward_emoji`` with its mean and deviation."""
    target = world.rewards / NAME
    if (target / "model.safetensors").exists():
        return
    words = tokenizer.build(world)
    work = world.scratch(NAME)
    pretrained = work / "pretrained"
    blip_reward.save(pretrained, pretrain(world, words).cpu(), about("tokenizer"), half=False)
    words.save_pretrained(pretrained / "tokenizer")
    choices = world.assets / "choices"
    places = {
        "base.path": pretrained,
        "choices.path": choices / "train.json",
        "test.path": choices / "test.json",
        "test.weights": world.rewards,
    }
    with ShownProgress(NAME) as report:
        settings = [f"{name}={place}" for name, place in places.items()]
        summary = train_reward(RECIPE, settings, work / "fine_tuned", report)
    print(f"{NAME}: test accuracy {summary['test']}")
    folder = work / "fine_tuned" / "reward"
    mean, std = standardisation(world, image_reward.open_folder(folder))
    model, _, _ = blip_reward.read(folder)
    blip_reward.save(target, model, about("../clip_emoji/tokenizer", mean, std))
