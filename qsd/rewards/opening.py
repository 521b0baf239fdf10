"""Reward models opened by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qsd.rewards.revision import files_read, revision
from qsd.rewards.scorers import REGISTRY
from qsd.rewards.torch_files import check_torch_file

if TYPE_CHECKING:
    from qsd.rewards.scorer import Scorer


def check_files(name: str, place: Path) -> None:
    """Check what the reward model ``name`` reads in ``place``, one of its folders: that it is there, and of its kind.

    Raises:
        UserError: as ``files_read`` and ``check_torch_file``.
    """
    files = files_read(name, place)
    for file in files.values() if isinstance(files, dict) else ():
        check_torch_file(file)


def open_reward(name: str, weights: str, device: str) -> Scorer:
    """Load the reward model ``name`` from its folder below ``weights`` onto a torch device.

    Raises:
        UserError: unknown name, or missing or damaged weights.
    """
    spec = REGISTRY.get(name)
    of_weights = revision(name, weights)
    for folder in spec.folders:
        check_files(name, Path(weights) / folder)
    scorer = spec.open(Path(weights) / spec.folder, device)
    scorer.name, scorer.revision = name, of_weights
    return scorer
