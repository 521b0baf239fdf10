"""HPS v2 and v2.1: the cosine of a ViT-H/14 CLIP fine-tuned on human choices; no logit scale.

Input: the longer side becomes 224, the rest is padded with black. The tensor is resized without antialiasing, as
torchvision up to 0.16 did when the weights were trained; the ``hpsv2`` package on a later torchvision antialiases and
gives other scores for the same image (``docs/reward_models.md`` has the size of the difference). Differences from the
package on purpose: alpha is dropped (the package fails on RGBA), an image whose longer side is 224 already is padded
like any other (the package passes it on unpadded, and its model then fails), the checkpoint is read once, and
scores are fp32 on every device.

Source: Wu et al., "Human Preference Score v2", arXiv 2306.09341; tgxs002/HPSv2 ``hpsv2/img_score.py`` and
``hpsv2/src/open_clip/transform.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.rewards.hub import HubFile
from qsd.rewards.preprocess import Preprocess
from qsd.rewards.scorers import LAION_VIT_H_14, ScorerSpec

if TYPE_CHECKING:
    from pathlib import Path

    from qsd.rewards.clip import ClipScorer

PREPROCESS = Preprocess(size=224, resize="longest", antialias=False)
_REPOSITORY = "xswu/HPSv2"


def spec(folder: str, file: str) -> ScorerSpec:
    """The reward model whose checkpoint is ``file`` of the published repository."""

    def open_scorer(place: Path, device: str) -> ClipScorer:
        from qsd.rewards.clip_published import VIT_H_14, open_clip_layout

        return open_clip_layout(place, (file,), VIT_H_14, PREPROCESS, device)

    files = (HubFile(_REPOSITORY, file),)
    return ScorerSpec(open_scorer, folder, "cosine", preprocess=PREPROCESS, files=files, backbone=LAION_VIT_H_14)
