"""The scale of an adapter's layers: the factor of B·A, from PEFT's settings or from the tensors ``.alpha``."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qsd.data.lfs import pointer_hint
from qsd.errors import UserError
from qsd.regular_files import read_regular

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

METADATA = "lora_adapter_metadata"
"""diffusers' name in a file's metadata for PEFT's settings of an adapter, as JSON."""
_READ = frozenset({"r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora"})
_HARMLESS = frozenset({
    "auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "exclude_modules", "inference_mode",
    "layers_pattern", "layers_to_transform", "lora_dropout", "megatron_core", "peft_type", "peft_version",
    "qalora_group_size", "revision", "runtime_config", "target_modules", "task_type",
})  # fmt: skip
"""Settings that say where an adapter was put or how it was trained, not what it adds: its tensors' names say where."""
_UNCHANGED_BASE = (True, False, None, "gaussian", "orthogonal", "eva")
"""Values of ``init_lora_weights`` that leave the base model's weights as they are; PiSSA and others change them."""


@dataclass(frozen=True)
class PeftSettings:
    """What PEFT's settings say of the scale.

    Attributes:
        place: where they stand, for messages.
        rank: of layers that no pattern names.
        alpha: likewise.
        ranks: pattern of layers' names -> rank.
        alphas: pattern of layers' names -> alpha.
        root: divide by the square root of the rank (rsLoRA).
        dora: every row of an adapted weight has a length of its own.
    """

    place: str
    rank: int
    alpha: float
    ranks: Mapping[str, int] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    root: bool = False
    dora: bool = False

    def scale(self, layer: str, rank: int) -> float:
        """Alpha / rank, or alpha / √rank, of a layer.

        Raises:
            UserError: the layer's tensors have another rank than the settings say.
        """
        stated = self.ranks.get(_matching(self.ranks, layer, self.place), self.rank)
        if stated != rank:
            raise UserError(f"{self.place}: rank {stated} for {layer}, whose tensors have rank {rank}")
        alpha = self.alphas.get(_matching(self.alphas, layer, self.place), self.alpha)
        return alpha / math.sqrt(rank) if self.root else alpha / rank


def read_peft_config(path: Path) -> PeftSettings:
    """PEFT's ``adapter_config.json``.

    Raises:
        UserError: missing, damaged, not LoRA, or with a setting that is not supported, by name.
    """
    try:
        settings = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: {pointer_hint(path) or f'not a readable JSON file ({error})'}") from None
    return _settings(settings, str(path))


def read_metadata(metadata: Mapping[str, str], network: str, place: str) -> PeftSettings | None:
    """The settings that diffusers puts into a file's metadata; None if it has put none there.

    Args:
        metadata: of the file.
        network: the pipeline's name for the network, with which the settings' names begin.
        place: for messages.

    Raises:
        UserError: damaged, of other networks alone, or with a setting that is not supported, by name.
    """
    if METADATA not in metadata:
        return None
    try:
        stored = json.loads(metadata[METADATA])
        named = {name.removeprefix(f"{network}."): value for name, value in stored.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{place}: damaged metadata {METADATA} ({error})") from None
    settings = {name: value for name, value in named.items() if "." not in name}
    if not settings:
        parts = ", ".join(sorted({name.partition(".")[0] for name in named})) or "nothing"
        raise UserError(
            f"{place}: metadata {METADATA} has settings of {parts}, none of {network}: the scale is not known"
        )
    return _settings(settings, f"{place}, metadata {METADATA}")


def _settings(settings: Any, place: str) -> PeftSettings:
    if not isinstance(settings, dict):
        raise UserError(f"{place}: not a JSON object")
    kind = settings.get("peft_type", "LORA")
    if kind != "LORA":
        raise UserError(f"{place}: peft_type {kind} is not supported; only LORA is")
    if settings.get("init_lora_weights", True) not in _UNCHANGED_BASE:
        raise UserError(
            f"{place}: init_lora_weights {settings['init_lora_weights']!r} changes the base model's weights; convert "
            "it to plain LoRA with peft (path_initial_model_for_weight_conversion)"
        )
    known = _READ | _HARMLESS | {"init_lora_weights"}
    active = sorted(
        name for name, value in settings.items() if name not in known and value and (name, value) != ("bias", "none")
    )
    if active:
        raise UserError(f"{place}: not supported: {', '.join(active)}; only LoRA, rsLoRA and DoRA are")
    try:
        ranks = {str(name): int(value) for name, value in (settings.get("rank_pattern") or {}).items()}
        alphas = {str(name): _number(value) for name, value in (settings.get("alpha_pattern") or {}).items()}
        rank, alpha = int(settings["r"]), _number(settings["lora_alpha"])
    except KeyError as error:
        raise UserError(f"{place}: {error.args[0]} is missing; without it the scale is not known") from None
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{place}: no numbers for rank and alpha ({error})") from None
    root, dora = (_choice(settings, name, place) for name in ("use_rslora", "use_dora"))
    return PeftSettings(place, rank, alpha, ranks, alphas, root, dora)


def _choice(settings: Mapping[str, Any], name: str, place: str) -> bool:
    """A setting that is true or false, or left out."""
    value = settings.get(name) or False
    if not isinstance(value, bool):
        raise UserError(f"{place}: {name} is {value!r}; it must be true or false")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return value


def _matching(patterns: Mapping[str, Any], layer: str, place: str) -> str:
    """The first pattern that matches, as PEFT finds it (``peft.utils.other.get_pattern_key``)."""
    for pattern in patterns:
        try:
            if re.match(rf"(.*\.)?({pattern})$", layer):
                return pattern
        except re.error:
            raise UserError(f"{place}: {pattern!r} is no pattern of layers' names") from None
    return layer
