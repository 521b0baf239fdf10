"""LAION aesthetic predictor v2 (sac+logos+ava1-l14-linearMSE), about 1 to 10; the caption is ignored.

The CLIP below it is that of ``clip_score``. Its five linear layers (768-1024-128-64-16-1) have no activations and are
one affine map (``qsd.rewards.aesthetic``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.rewards.hub import HubFile
from qsd.rewards.scorers import ScorerSpec
from qsd.rewards.scorers import clip_score as below

if TYPE_CHECKING:
    from pathlib import Path

    from qsd.rewards.aesthetic import AestheticScorer

FILES = ("sac+logos+ava1-l14-linearMSE.pth", "aesthetic-model.pth")
"""Names under which the head is published: its authors' repository on GitHub, and a copy on the hub."""


def open_scorer(folder: Path, device: str) -> AestheticScorer:
    """Load the head from ``folder`` and the CLIP from the neighbouring folder ``clip_score``."""
    from qsd.rewards.aesthetic import on_clip
    from qsd.rewards.checkpoint import first_of

    clip_folder = folder.parent / below.SCORER.folder
    return on_clip(below.open_scorer(clip_folder, device), clip_folder, first_of(folder, FILES))


SCORER = ScorerSpec(
    open_scorer,
    "aesthetic_v2",
    "aesthetic",
    needs=(below.SCORER.folder,),
    preprocess=below.PREPROCESS,
    files=(HubFile("trl-lib/ddpo-aesthetic-predictor", "aesthetic-model.pth"),),
    backbone=below.SCORER.backbone,
    reads=(FILES,),
)
