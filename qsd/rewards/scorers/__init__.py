"""The reward models by name. One file per member."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qsd.registry import Remark
    from qsd.rewards.hub import HubFile
    from qsd.rewards.preprocess import Preprocess
    from qsd.rewards.scorer import Scorer


@dataclass(frozen=True)
class ScorerSpec:
    """How a reward model is opened.

    Attributes:
        open: (folder with its weights, torch device name) -> scorer.
        folder: the weights' folder below ``reward.weights``.
        needs: further folders it reads, for example the CLIP below an aesthetic head; they enter its revision.
        unit: of the score, for example ``cosine``; ``stated``: its ``config.json`` states it.
        selects: False for a judge: it must never rank training pairs.
        preprocess: of published weights; folders that this project writes state theirs in ``config.json``.
        files: published weights on the hub; none for reward models that this project trains.
        version: raised whenever the same weights give other scores.
        backbone: the pretrained network that it is, sits on or was fine-tuned from, where other reward models share it;
            their scores are correlated, so tables mark them. Empty: it shares no network.
        differentiable: whether ``score_tensor`` has gradients that reach the pixels.
        reads: the files that it reads in ``folder``, each by the names that it may have, the published one first; by
            default ``files``. Without either, every file of the folder counts for its revision.
        is_judge: False where no higher value is a better image, so that a fall is no worsening.
        scores_new_images: False where only images that are known beforehand have scores; it can be no reward of an
            on-policy method, which scores images that it has just made.
    """

    open: Callable[[Path, str], Scorer]
    folder: str
    unit: str
    needs: tuple[str, ...] = ()
    selects: bool = True
    preprocess: Preprocess | None = None
    files: tuple[HubFile, ...] = ()
    version: int = 1
    backbone: str = ""
    differentiable: Remark[bool] = True
    reads: Remark[tuple[tuple[str, ...], ...]] = ()
    is_judge: Remark[bool] = True
    scores_new_images: Remark[bool] = True

    @property
    def folders(self) -> tuple[str, ...]:
        """Every folder below ``reward.weights`` that it reads."""
        return (self.folder, *self.needs)


LAION_VIT_H_14 = "OpenCLIP ViT-H/14 (LAION-2B)"
"""The backbone that HPS v2 and PickScore were both fine-tuned from."""

ENSEMBLE = "ensemble"
"""The one member that is no function of an image and a caption: it combines others over a data set."""

REGISTRY: Registry[ScorerSpec] = Registry("reward model", "qsd.rewards.scorers", "SCORER", {"hps_v2_1": "hps_v2.1"})
