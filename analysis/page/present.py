"""Whether the page that is there shows the present tables; imports nothing heavy."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from analysis.lock import NAME as LOCK

NAME = "report.html"
ASSETS = Path(__file__).parent / "assets"
_SHOWN = (LOCK, "run.json")
"""Files of the sweep's folder whose content the page shows; the lock stands for all tables, figures and code."""
_HEAD = 4096
_DIGEST = re.compile(rb'<meta name="shows" content="([0-9a-f]{64})">')


def shown_digest(sweep_folder: Path) -> str | None:
    """SHA-256 of what the page is made from, which the page carries; None without a lock of written tables."""
    if not (sweep_folder / LOCK).is_file():
        return None
    files = [*(sweep_folder / name for name in _SHOWN), *sorted(ASSETS.iterdir())]
    parts = [hashlib.sha256(path.read_bytes()).digest() for path in files if path.is_file()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def is_present(sweep_folder: Path) -> bool:
    """True if the page is there and shows the present tables."""
    path = sweep_folder / NAME
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        match = _DIGEST.search(stream.read(_HEAD))
    return match is not None and match[1].decode() == shown_digest(sweep_folder)
