"""Paths with nothing there: what may have been meant."""

from __future__ import annotations

import difflib
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MOST_NAMES = 10_000
"""Names of a folder that are compared: a folder of images may have millions."""


def suggest_path(path: Path) -> str:
    """`` (did you mean 'data/pairs.csv'?)`` where the first missing part of a path is near a name beside it.

    Empty if nothing is near, if the path exists, or if the folder cannot be read.
    """
    missing = next((part for part in (*reversed(path.parents), path) if not part.exists()), None)
    if missing is None:
        return ""
    try:
        names = sorted(each.name for each in islice(missing.parent.iterdir(), _MOST_NAMES))
    except OSError:
        return ""
    near = difflib.get_close_matches(missing.name, names, n=1, cutoff=0.6)
    return f" (did you mean '{missing.parent / near[0]}'?)" if near else ""
