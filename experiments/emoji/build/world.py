"""Constants and paths of the emoji world: one place for every seed, size and file name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SEED = 20_241
RESOLUTION = 64
LATENT_CHANNELS = 8
MAX_TOKENS = 20

STYLES = {"fluent-emoji-flat": "fluent", "noto": "noto", "twemoji": "twemoji"}
"""npm package suffix -> the word that stands for the style in captions."""

ASSETS = Path(__file__).resolve().parent.parent / "assets"


@dataclass(frozen=True)
class World:
    """Where a build writes: ``work`` for intermediate and resumable files, ``assets`` for the included files."""

    work: Path
    assets: Path

    @property
    def icons(self) -> Path:
        """4,683 rendered icons: emoji, style, caption, category, split, image (lossless WebP). Not included."""
        return self.work / "icons.parquet"

    @property
    def captions(self) -> Path:
        """The same rows without the images."""
        return self.assets / "captions.parquet"

    @property
    def model(self) -> Path:
        """The text-to-image model as a diffusers folder."""
        return self.assets / "model"

    @property
    def flow_model(self) -> Path:
        """The flow-matching model as a diffusers folder."""
        return self.assets / "flow_model"

    @property
    def rewards(self) -> Path:
        """One folder per reward model."""
        return self.assets / "rewards"

    def scratch(self, name: str) -> Path:
        """A folder for the resumable state of step ``name``."""
        folder = self.work / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder
