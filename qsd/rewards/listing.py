"""All reward models with unit, input size, revision, and whether their weights are there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qsd.errors import UserError
from qsd.rewards.folder import named_folder, read_config
from qsd.rewards.precomputed import STATED
from qsd.rewards.preprocess import Preprocess
from qsd.rewards.revision import revision
from qsd.rewards.scorers import ENSEMBLE, REGISTRY


@dataclass(frozen=True)
class ListedRewardModel:
    """One line of ``qsd rewards``.

    Without weights the revision is None, and so is a size that depends on them; a size of 0 means that images are not
    resized.
    """

    name: str
    unit: str
    selects: bool
    is_judge: bool
    size: int | None
    revision: str | None


def listing(weights: Path) -> list[ListedRewardModel]:
    """Every reward model, looked for below ``weights``; loads no model."""
    lines = []
    for name in REGISTRY.names():
        spec = REGISTRY.get(name)
        if name == ENSEMBLE:
            lines.append(ListedRewardModel(name, spec.unit, spec.selects, spec.is_judge, None, "of reward.members"))
            continue
        size, unit = (spec.preprocess.size if spec.preprocess else None), spec.unit
        try:
            digest = revision(name, str(weights))
            size, unit = preprocess_of(name, str(weights)).size, unit_of(name, str(weights))
        except UserError:
            digest = None
        lines.append(ListedRewardModel(name, unit, spec.selects, spec.is_judge, size, digest))
    return lines


def preprocess_of(name: str, weights: str) -> Preprocess:
    """How a reward model makes pixels of images, as its registry entry, its config or that of its CLIP says.

    Raises:
        UserError: no readable config.json below ``weights``.
    """
    spec = REGISTRY.get(name)
    return spec.preprocess or _stated(Path(weights) / spec.folder)


def unit_of(name: str, weights: str) -> str:
    """The unit of a reward model's scores.

    Raises:
        UserError: its folder has to state it, and has no readable config.json that does.
    """
    spec = REGISTRY.get(name)
    return str(read_config(Path(weights) / spec.folder, ("unit",))["unit"]) if spec.unit == STATED else spec.unit


def _stated(folder: Path) -> Preprocess:
    config = read_config(folder, ())
    if "clip" in config:
        config = read_config(named_folder(folder, config, "clip"), ())
    if "preprocess" not in config:
        raise UserError(f"{folder / 'config.json'}: preprocess missing")
    return Preprocess.from_config(config["preprocess"])
