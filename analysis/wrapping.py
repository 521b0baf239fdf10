"""Break names of cells and captions where a reader would."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Spaces, or a piece up to a sign that joins words (a dot only before a letter: 0.5 stays whole), or a whole word.
_PIECE = re.compile(r"\s+|\S*?(?:[=_,/]|\.(?=[A-Za-z]))|\S+")


def wrap(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Lines of ``text`` that fit; inside a piece it is broken only where the piece alone does not fit."""
    lines: list[str] = [""]
    for piece in _PIECE.findall(text):
        if fits((lines[-1] + piece).rstrip()):
            lines[-1] += piece
            continue
        if lines[-1]:
            lines.append("")
        for letter in piece.lstrip():
            if lines[-1] and not fits(lines[-1] + letter):
                lines.append("")
            lines[-1] += letter
    return [line.strip() for line in lines]
