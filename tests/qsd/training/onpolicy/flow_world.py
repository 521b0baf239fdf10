"""Tiny flow-matching models for on-policy methods: SD3, and FLUX.1-dev, whose guidance is an input of the network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsd.models.families import family_named
from tests.qsd import tiny_flow

SAVE = {"StableDiffusion3Pipeline": tiny_flow.save_sd3, "FluxPipeline": tiny_flow.save_flux}
NOISE_LEVEL = 0.7
"""Flow-GRPO's a."""


@dataclass(frozen=True)
class FlowModel:
    """A folder with random weights.

    Attributes:
        pipeline: its class in diffusers.
        folder: where it is.
    """

    pipeline: str
    folder: Path

    @property
    def guidance(self) -> float:
        """Of classifier-free guidance; FLUX.1-dev has none."""
        return 2.0 if self.pipeline == "StableDiffusion3Pipeline" else 1.0

    @property
    def settings(self) -> dict[str, Any]:
        """Of an on-policy training of it."""
        return {
            "model__path": str(self.folder),
            "lora__targets": list(family_named(self.pipeline, "a test").lora_targets),
            "method__guidance_scale": self.guidance,
            "method__eta": NOISE_LEVEL,
        }


def flow_model(pipeline: str, folder: Path) -> FlowModel:
    """Write the model."""
    return FlowModel(pipeline, SAVE[pipeline](folder))
