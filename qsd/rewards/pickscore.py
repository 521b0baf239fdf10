"""PickScore v1: a ViT-H/14 CLIP fine-tuned on Pick-a-Pic v1.

Published in two conventions, which give the same order: exp(logit_scale) · cosine, about 20 (its README), and the bare
cosine, about 0.2 (the Diffusion-DPO code). Each is a separate reward model here, so that a column has one unit.

Input: shorter side 224 with Pillow's bicubic filter, centre crop; captions cut at 77 tokens. It is an in-distribution
judge of whatever was trained on Pick-a-Pic.

Source: Kirstain et al., "Pick-a-Pic", arXiv 2305.01569; yuvalkirstain/PickScore ``README.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from qsd.rewards.hub import HubFile
from qsd.rewards.preprocess import Preprocess
from qsd.rewards.scorers import LAION_VIT_H_14, ScorerSpec

if TYPE_CHECKING:
    from pathlib import Path

    from qsd.rewards.clip import ClipScorer

PREPROCESS = Preprocess(size=224)


def spec(unit: Literal["cosine", "logit"]) -> ScorerSpec:
    """PickScore in one of its conventions; both read the folder ``pickscore``."""

    def open_scorer(place: Path, device: str) -> ClipScorer:
        from qsd.rewards.clip_published import VIT_H_14, transformers_layout

        return transformers_layout(place, VIT_H_14, PREPROCESS, device, unit)

    files = (HubFile("yuvalkirstain/PickScore_v1", "model.safetensors"),)
    return ScorerSpec(
        open_scorer,
        "pickscore",
        unit,
        preprocess=PREPROCESS,
        files=files,
        backbone=LAION_VIT_H_14,
        reads=(("model.safetensors", "pytorch_model.bin"),),
    )
