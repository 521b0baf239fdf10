"""Prompts by style, as the HPS v2 benchmark publishes them: a folder of ``<style>.json``, each a list of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.data.json_list import read_list
from qsd.errors import UserError
from qsd.registry import suggest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

STYLES = ("anime", "concept-art", "paintings", "photo")
"""The published benchmark; ``drawbench`` lies beside these and is no part of the mean."""


def read_styles(folder: Path, styles: Sequence[str] = STYLES) -> dict[str, list[str]]:
    """Prompts by style from ``<style>.json``, plain lists of texts, in the order of the file.

    Raises:
        UserError: a style has no file, no prompt, or an empty prompt.
    """
    return {style: list(_prompts(folder, style)) for style in styles}


def _prompts(folder: Path, style: str) -> Iterator[str]:
    path = folder / f"{style}.json"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.json"))
        have = f"it has {', '.join(known)}" if known else "it has no *.json"
        raise UserError(f"{folder}: no prompts of style {style!r}{suggest(style, known)}; {have}")
    number = -1
    for number, prompt in enumerate(read_list(path, str)):
        if not prompt.strip():
            raise UserError(f"{path}: prompt {number} is empty; one left out would shift the groups")
        yield prompt
    if number < 0:
        raise UserError(f"{path}: no prompts")
