"""All reward models with unit, input size, revision, and whether their weights are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.errors import UserError
from qsd.rewards.folder import read_config
from qsd.rewards.revision import revision
from qsd.rewards.scorers import ENSEMBLE, REGISTRY

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Listed:
    """One line of ``qsd rewards``; revision is None without weights, and so is a size that only they tell."""

    name: str
    unit: str
    selects: bool
    size: int | None
    revision: str | None


def listing(weights: Path) -> list[Listed]:
    """Every reward model, looked for below ``weights``; loads no model."""
    lines = []
    for name in REGISTRY.names():
        spec = REGISTRY.get(name)
        if name == ENSEMBLE:
            lines.append(Listed(name, spec.unit, spec.selects, None, "of reward.members"))
            continue
        size = spec.preprocess.size if spec.preprocess else None
        try:
            found = revision(name, str(weights))
            size = size or input_size(weights / spec.folder)
        except UserError:
            found = None
        lines.append(Listed(name, spec.unit, spec.selects, size, found))
    return lines


def input_size(folder: Path) -> int:
    """Side of the square input of the scorer in ``folder``, in pixels, from its config or that of its CLIP.

    Raises:
        UserError: no readable config.json.
    """
    config = read_config(folder, ())
    if "clip" in config:
        return input_size(folder / config["clip"])
    if "preprocess" not in config:
        raise UserError(f"{folder / 'config.json'}: preprocess missing")
    return int(config["preprocess"]["size"])
