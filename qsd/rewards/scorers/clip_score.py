"""CLIP score: the unmodified cosine of OpenAI's CLIP ViT-L/14.

Not times 100 (torchmetrics), and not 2.5 · max(cosine, 0) (Hessel et al., "CLIPScore", arXiv 2104.08718, on ViT-B/32):
all three give the same order where the cosine is positive. Captions are cleaned as OpenAI's own code does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.rewards.hub import HubFile
from qsd.rewards.preprocess import Preprocess
from qsd.rewards.scorers import ScorerSpec

if TYPE_CHECKING:
    from pathlib import Path

    from qsd.rewards.clip import ClipScorer

PREPROCESS = Preprocess(size=224, crop="round")


def open_scorer(folder: Path, device: str) -> ClipScorer:
    """Load the CLIP from ``folder``."""
    from qsd.rewards.bpe import as_openai
    from qsd.rewards.clip_published import VIT_L_14, transformers_layout

    return transformers_layout(folder, VIT_L_14, PREPROCESS, device, tokenize=as_openai)


SCORER = ScorerSpec(
    open_scorer,
    "clip_score",
    "cosine",
    preprocess=PREPROCESS,
    files=(HubFile("openai/clip-vit-large-patch14", "model.safetensors"),),
    backbone="OpenAI CLIP ViT-L/14",
    reads=(("model.safetensors", "pytorch_model.bin"),),
)
