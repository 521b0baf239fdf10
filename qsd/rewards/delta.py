"""A fine-tuned CLIP stored as the changed weights only: its folder is next to the folder of the CLIP it started from.

::

    config.json           {"base": {"folder": "clip_emoji", "layout": "own", …}, "preprocess": {…}}
    trained.safetensors   the changed tensors by open_clip's names, fp16; computed in fp32

``folder`` is the base's, in the same parent folder; ``layout`` is ``own``, ``open_clip`` or ``transformers``, the last
two with the checkpoint's ``file`` in that folder and its ``architecture``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qsd.config.digest import digest, hash_of
from qsd.errors import UserError
from qsd.rewards.checkpoint import read_checkpoint
from qsd.rewards.clip import ClipScorer
from qsd.rewards.clip import open_scorer as open_own
from qsd.rewards.folder import read_config, save_weights
from qsd.rewards.preprocess import Preprocess
from qsd.weights import check_names

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from torch import Tensor

WEIGHTS = "trained.safetensors"
_BLOCK = re.compile(r"(?:visual\.)?transformer\.resblocks\.(\d+)\.")
_BEHIND = ("visual.proj", "visual.ln_post.", "text_projection", "ln_final.")


@dataclass(frozen=True)
class Base:
    """Where the CLIP is that training began with.

    Attributes:
        folder: its folder's name.
        layout: ``own``, ``open_clip`` or ``transformers``.
        file: the checkpoint in that folder, for published layouts.
        architecture: ``ViT-H-14`` or ``ViT-L-14``, for published layouts.
    """

    folder: str
    layout: str = "own"
    file: str | None = None
    architecture: str | None = None

    def open(self, beside: Path, preprocess: Preprocess | None = None, device: str = "cpu") -> ClipScorer:
        """The CLIP in the folder ``beside / folder``; ``preprocess`` None is its own, published ones state none.

        Raises:
            UserError: nothing there, damaged, or no such layout.
        """
        place = beside / self.folder
        if not place.is_dir():
            raise UserError(f"{place}: the CLIP that was fine-tuned is not there; its folder must lie in {beside}")
        if self.layout == "own":
            scorer = open_own(place, device)
            scorer.preprocess = preprocess or scorer.preprocess
            return scorer
        from qsd.rewards.clip_published import VIT_H_14, VIT_L_14, open_clip_layout, transformers_layout

        architectures = {"ViT-H-14": VIT_H_14, "ViT-L-14": VIT_L_14}
        if self.architecture not in architectures or self.layout not in ("open_clip", "transformers"):
            raise UserError(f"{place}: layout {self.layout!r} with architecture {self.architecture!r} is not known")
        model_cfg = architectures[self.architecture]
        preprocess = preprocess or Preprocess(size=model_cfg["vision_cfg"]["image_size"])
        if self.layout == "transformers":
            return transformers_layout(place, model_cfg, preprocess, device)
        return open_clip_layout(place, (self.file or "",), model_cfg, preprocess, device)


def save(folder: Path, base: Base, preprocess: Preprocess, trained: Mapping[str, Tensor]) -> None:
    """Write a fine-tuned CLIP's folder; same tensors, same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"base": vars(base), "preprocess": vars(preprocess)}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_weights(folder / WEIGHTS, trained, half=True)


def open_scorer(folder: Path, device: str = "cpu") -> ClipScorer:
    """Load a fine-tuned CLIP and the CLIP below it.

    Raises:
        UserError: a missing or damaged file, or tensors that the CLIP does not have.
    """
    config = read_config(folder, ("base", "preprocess"))
    base = _base(folder, config["base"])
    scorer = base.open(folder.parent, Preprocess.from_config(config["preprocess"]))
    trained = read_checkpoint(folder / WEIGHTS)
    put(scorer, trained, folder / WEIGHTS)
    missing = missing_tensors(trained, [name for name, _ in scorer.model.named_parameters()])
    check_names(str(folder / WEIGHTS), missing, ())
    revision = hash_of([digest(folder), digest(folder.parent / base.folder)])[:12]
    scorer.model.to(device)
    return ClipScorer(folder.name, revision, scorer.model, scorer.preprocess, scorer.tokenize)


def put(scorer: ClipScorer, trained: Mapping[str, Tensor], path: Path) -> None:
    """Put tensors into the CLIP of ``scorer``.

    Raises:
        UserError: a tensor that it does not have, or of another shape; ``path`` is where they were read.
    """
    if not trained:
        raise UserError(f"{path}: has no tensors; the folder would score as the CLIP below it")
    shapes = {name: tensor.shape for name, tensor in scorer.model.state_dict().items()}
    for name, tensor in trained.items():
        if shapes.get(name) != tensor.shape:
            raise UserError(f"{path}: {name} {tuple(tensor.shape)} does not fit the CLIP below it; another base?")
    scorer.model.load_state_dict(dict(trained), strict=False)


def missing_tensors(trained: Collection[str], parameters: Collection[str]) -> list[str]:
    """Tensors that a training would have stored beside those that are there.

    Training takes the last blocks of a tower with all that comes behind them, or the whole tower, and the logit scale
    (``qsd.reward_training.layers``). A file with less has lost something, and would score as half of a training.

    Args:
        trained: names in the file.
        parameters: names of all parameters of the CLIP.
    """
    wanted = {"logit_scale"}
    for image in (True, False):
        tower = {name: _depth(name) for name in parameters if name.startswith("visual.") is image}
        depths = [tower[name] for name in trained if name in tower and name != "logit_scale"]
        wanted |= {name for name, depth in tower.items() if depths and depth >= min(depths)}
    return sorted(wanted - set(trained))


def _depth(name: str) -> float:
    """The number of a parameter's block; -1 before the blocks, and infinite behind them."""
    if match := _BLOCK.match(name):
        return int(match[1])
    return float("inf") if name.startswith(_BEHIND) else -1


def _base(folder: Path, fields: Any) -> Base:
    try:
        base = Base(**fields)
    except TypeError:
        raise UserError(f"{folder / 'config.json'}: base must have folder, layout, file, architecture") from None
    if not all(value is None or isinstance(value, str) for value in vars(base).values()):
        raise UserError(f"{folder / 'config.json'}: base must have texts for folder, layout, file, architecture")
    if base.folder != folder.parent.joinpath(base.folder).name:
        raise UserError(f"{folder / 'config.json'}: base.folder {base.folder!r} must be the name of a folder beside")
    return base
