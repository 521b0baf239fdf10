"""The files that the runs of the originals write: ``tests/qsd/parity/<name>.json``."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from scripts.parity.pictures import CAPTIONS, pictures, summary

TARGET = Path(__file__).parents[2] / "tests" / "qsd" / "parity"


def caption_of(place: int) -> str:
    """The caption that image n is scored with: caption n modulo the number of captions."""
    return CAPTIONS[place % len(CAPTIONS)]


def scores(score: Callable[[Image.Image, str], float], native: bool = False) -> dict[str, float | str]:
    """Score of every image by name, or the error of an original that fails; images are made RGB unless ``native``."""
    values: dict[str, float | str] = {}
    for place, (name, image) in enumerate(pictures().items()):
        try:
            values[name] = round(float(score(image if native else image.convert("RGB"), caption_of(place))), 7)
        except (RuntimeError, ValueError, TypeError) as error:
            values[name] = f"fails: {type(error).__name__}: {str(error).splitlines()[0][:120]}"
    return values


def pixels(preprocess: Callable[[Image.Image], torch.Tensor]) -> dict[str, list[float] | str]:
    """Summary of the preprocessed RGB pixels of every image by name, or the error."""
    values: dict[str, list[float] | str] = {}
    for name, image in pictures().items():
        try:
            values[name] = summary(preprocess(image.convert("RGB")))
        except (RuntimeError, ValueError, TypeError) as error:
            values[name] = f"fails: {type(error).__name__}: {str(error).splitlines()[0][:120]}"
    return values


def write(name: str, packages: list[str], **values: Any) -> None:
    """The record ``name``, with the versions of the originals' packages."""
    versions = {package: version(package) for package in [*packages, "torch", "torchvision", "pillow"]}
    TARGET.mkdir(parents=True, exist_ok=True)
    path = TARGET / f"{name}.json"
    text = json.dumps({"original": versions, **values}, ensure_ascii=True, separators=(",", ":"))
    path.write_text(text.replace('],"', '],\n"').replace('},"', '},\n"') + "\n", encoding="utf-8")
    print(f"{path.name}: {len(text)} bytes")
