"""What is known about an adapter where it is trained: its base, its cell, its training. No time, host or path.

A cell is described by the settings that it and the stages before it read and that differ from the defaults; the sweep
that it belongs to is not known here. What the adapter was trained on is worded by the method that trained it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qsd.adapters.licences import licence_of
from qsd.config.digest import canonical_json, is_hub_name, location_digest

PREFIX = "qsd."
"""Of the facts' names in the metadata of the adapter's file, beside diffusers' own."""


@dataclass(frozen=True)
class TrainingFacts:
    """What a method tells of a training.

    Attributes:
        metadata: for the adapter's file, name without prefix -> value, such as digests of the inputs.
        tags: for the hub, beside ``lora`` and ``text-to-image``.
        results: sentences of the card about what came of the settings, one a bullet point.
        data: a paragraph of the card: what the adapter was trained on.
        digests: of the inputs, for the card: what it is the digest of -> the digest.
    """

    metadata: Mapping[str, str]
    tags: tuple[str, ...]
    results: tuple[str, ...]
    data: str
    digests: Mapping[str, str]


@dataclass(frozen=True)
class AdapterFacts:
    """Facts of one adapter.

    Attributes:
        base_model: hub name with its revision, or ``folder:<digest>`` for a local folder, whose path says nothing.
        pipeline: the class of the base model's pipeline in diffusers.
        settings: the cell: dotted name -> value.
        seed: of the training.
        training: from the method.
        kohya_readers: what reads the adapter's second file (``Family.kohya_readers``); empty: there is none.
    """

    base_model: str
    pipeline: str
    settings: Mapping[str, Any]
    seed: int
    training: TrainingFacts
    kohya_readers: str

    @property
    def hub_name(self) -> str | None:
        """The base model's name on the hub, without its revision; None for a local folder."""
        return None if self.base_model.startswith("folder:") else self.base_model.partition("@")[0]

    def metadata(self) -> dict[str, str]:
        """For the adapter's file; all names have ``PREFIX``."""
        values = {
            **self.training.metadata,
            "base_model": self.base_model,
            "cell": canonical_json(self.settings),
            "licence": licence_of(self.base_model).note,
            "pipeline": self.pipeline,
            "seed": str(self.seed),
        }
        return {f"{PREFIX}{name}": value for name, value in values.items()}


def name_of_base(path: str) -> str:
    """A base model as ``AdapterFacts.base_model`` names it, by its hub name or its local folder.

    Raises:
        UserError: the folder is not there.
    """
    return path if is_hub_name(path) else f"folder:{location_digest(path)}"
